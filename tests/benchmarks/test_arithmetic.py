import pytest

from benchmarks.arithmetic import growth, line_through, median_ratio


def test_ratio_is_of_rounds_side_by_side() -> None:
    # The machine was slow in the second round, for both.
    assert median_ratio([2.0, 20.0, 2.2], [1.0, 10.0, 1.0]) == 2.0


def test_ratio_wants_as_many_rounds_of_both() -> None:
    with pytest.raises(ValueError, match="zip"):
        median_ratio([1.0, 2.0], [1.0])


def test_line_through_points_on_a_line() -> None:
    slope, intercept, r_squared = line_through([1, 4, 8], [5.5, 10.0, 16.0])
    assert (slope, intercept, r_squared) == pytest.approx((1.5, 4.0, 1.0))


def test_line_through_points_off_it() -> None:
    # Checked by hand: means 2 and 4, so the slope is 4 / 2; of 8 + 2/3 squared, 2/3 are left.
    slope, intercept, r_squared = line_through([1, 2, 3], [2 + 1 / 3, 3 + 1 / 3, 6 + 1 / 3])
    assert (slope, intercept) == pytest.approx((2.0, 0.0))
    assert r_squared == pytest.approx(1 - (2 / 3) / (8 + 2 / 3))


def test_growth_is_a_part_of_what_was() -> None:
    assert growth(200.0, 203.0) == pytest.approx(0.015)
