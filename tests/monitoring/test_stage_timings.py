import pytest
from conftest import FakeClock

from edge_daemon.monitoring.rolling_window import CAPACITY, Recent
from edge_daemon.monitoring.stage_timings import StageTimes


@pytest.fixture
def stages(clock: FakeClock) -> StageTimes:
    return StageTimes(clock)


def test_steps_run_one_after_another_as_before(stages: StageTimes) -> None:
    (step,) = stages.timed("detection", [lambda item: item + "b", lambda item: item + "c"])
    assert step("a") == "abc"


def test_median_and_tail_of_each_stage_are_told_in_milliseconds(
    stages: StageTimes, clock: FakeClock
) -> None:
    def work(seconds: float) -> None:
        clock.seconds += seconds

    (detect,) = stages.timed("detection", [work])
    (publish,) = stages.timed("publishing", [work, lambda _: work(0.001)])
    for number in range(101):
        detect(number / 1000)
        publish(0.004)
    told = stages.figures()
    assert list(told) == ["detection", "publishing"]
    assert (told["detection"].p50, told["detection"].p95) == pytest.approx((50, 95))
    assert (told["publishing"].p50, told["publishing"].p95) == pytest.approx((5, 5))


def test_stage_that_had_nothing_to_do_in_the_last_minute_is_not_told(
    stages: StageTimes, clock: FakeClock
) -> None:
    (step,) = stages.timed("detection", [lambda item: item])
    assert stages.figures() == {}
    step(None)
    assert list(stages.figures()) == ["detection"]
    clock.seconds += 61
    assert stages.figures() == {}


def test_work_that_fails_is_no_measurement(stages: StageTimes) -> None:
    (step,) = stages.timed("detection", [lambda item: 1 / item])
    with pytest.raises(ZeroDivisionError):
        step(0)
    assert stages.figures() == {}


def test_ring_keeps_the_newest_of_more_than_it_holds(clock: FakeClock) -> None:
    recent = Recent(clock)
    for number in range(CAPACITY + 10):
        recent.note(number)
    rows = recent.rows()
    assert (len(rows), rows[:, 1].min(), rows[:, 1].max()) == (CAPACITY, 10, CAPACITY + 9)
