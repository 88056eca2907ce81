import pytest
from conftest import FakeClock

from edge_daemon.config.settings import SheddingSettings
from edge_daemon.inference.step import TimeBudget

SECONDS_PER_MMAC = 0.001


@pytest.fixture
def budget(clock: FakeClock) -> TimeBudget:
    """Three members that take 10, 20 and 30 ms a face, and 66 ms for all."""
    made = TimeBudget([10, 20, 30], SheddingSettings(budget=0.066), 9.9, clock)
    learn(made, clock)
    return made


def learn(budget: TimeBudget, clock: FakeClock, seconds_per_mmac: float = SECONDS_PER_MMAC) -> None:
    for _ in range(100):
        with budget.measured(1, 2):
            clock.seconds += 30 * seconds_per_mmac


@pytest.mark.parametrize(("faces", "members"), [(1, 3), (2, 2), (3, 1), (6, 1), (50, 1)])
def test_as_many_members_are_asked_as_fit_but_one_at_least(
    budget: TimeBudget, faces: int, members: int
) -> None:
    assert budget.models(faces) == members


def test_before_anything_is_known_all_are_asked(clock: FakeClock) -> None:
    assert TimeBudget([10, 20], SheddingSettings(budget=0.001), 9.9, clock).models(9) == 2


def test_slower_machine_is_learnt_and_forgotten(budget: TimeBudget, clock: FakeClock) -> None:
    learn(budget, clock, 2 * SECONDS_PER_MMAC)
    assert budget.models(1) == 2
    learn(budget, clock, SECONDS_PER_MMAC / 2)
    assert budget.models(1) == 3


def test_one_slow_frame_is_no_reason(budget: TimeBudget, clock: FakeClock) -> None:
    with budget.measured(1, 3):
        clock.seconds += 0.1
    assert budget.models(1) == 3


def test_member_left_out_comes_back_only_with_a_reserve(clock: FakeClock) -> None:
    budget = TimeBudget([10, 20, 30], SheddingSettings(), 0.061, clock)
    learn(budget, clock)
    assert [budget.models(faces) for faces in (1, 2, 1)] == [3, 2, 2]
    budget.apply(SheddingSettings(budget=0.076))
    assert budget.models(1) == 3


def test_no_more_are_asked_than_is_allowed(budget: TimeBudget) -> None:
    budget.limit(1)
    assert budget.models(1) == 1
    budget.limit(3)
    assert budget.models(1) == 2  # the third has no reserve
