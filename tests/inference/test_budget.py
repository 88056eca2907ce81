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
def test_budget_uses_as_many_members_as_fit_but_at_least_one(
    budget: TimeBudget, faces: int, members: int
) -> None:
    assert budget.members(faces) == members


def test_budget_without_measurements_uses_all_members(clock: FakeClock) -> None:
    assert TimeBudget([10, 20], SheddingSettings(budget=0.001), 9.9, clock).members(9) == 2


def test_budget_follows_the_speed_of_the_machine(budget: TimeBudget, clock: FakeClock) -> None:
    learn(budget, clock, 2 * SECONDS_PER_MMAC)
    assert budget.members(1) == 2
    learn(budget, clock, SECONDS_PER_MMAC / 2)
    assert budget.members(1) == 3


def test_budget_one_slow_frame_changes_nothing(budget: TimeBudget, clock: FakeClock) -> None:
    with budget.measured(1, 3):
        clock.seconds += 0.1
    assert budget.members(1) == 3


def test_budget_member_returns_only_with_a_reserve(clock: FakeClock) -> None:
    budget = TimeBudget([10, 20, 30], SheddingSettings(), 0.061, clock)
    learn(budget, clock)
    assert [budget.members(faces) for faces in (1, 2, 1)] == [3, 2, 2]
    budget.apply(SheddingSettings(budget=0.076))
    assert budget.members(1) == 3


def test_budget_limit_is_not_exceeded(budget: TimeBudget) -> None:
    budget.set_max_members(1)
    assert budget.members(1) == 1
    budget.set_max_members(3)
    assert budget.members(1) == 2  # the third has no reserve
