import pytest

from emotion_trainer.errors import RecipeError
from emotion_trainer.models.families import within_budget
from emotion_trainer.models.families.scaling import solve_width
from emotion_trainer.models.families.seq1 import Settings


def test_channels_come_in_eights() -> None:
    settings = Settings(family="seq1", width=0.75)
    assert [settings.channels(base) for base in (1, 16, 32, 40, 48)] == [8, 16, 24, 32, 40]


def test_depth_leaves_at_least_one_layer() -> None:
    settings = Settings(family="seq1", depth=0.5)
    assert [settings.repeats(base) for base in (1, 2, 3)] == [1, 1, 2]


def test_solve_width_meets_the_budget() -> None:
    assert solve_width(lambda width: 20 * width**2, 5.0) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("budget", [0.1, 1000.0])
def test_solve_width_budget_out_of_reach_is_refused(budget: float) -> None:
    with pytest.raises(RecipeError, match=r"^model\.budget_mmac: "):
        solve_width(lambda width: 20 * width**2, budget)


def test_solve_width_budget_between_steps_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"^model\.budget_mmac: .*10\.00.*20\.00"):
        solve_width(lambda width: 10.0 if width < 1 else 20.0, 15.0)


def test_settings_without_a_budget_stay_as_they_are() -> None:
    settings = Settings(family="seq1")
    assert within_budget(settings) is settings
