import pytest
from conftest import FakeClock

from edge_daemon.monitoring.rolling_window import CAPACITY, Recent
from edge_daemon.monitoring.stage_timings import StageTimings


@pytest.fixture
def timings(clock: FakeClock) -> StageTimings:
    return StageTimings(clock)


def test_figures_are_quantiles_in_milliseconds(timings: StageTimings) -> None:
    for number in range(101):
        timings.record("detection", number / 1000)
        timings.record("publishing", 0.005)
    figures = timings.figures()
    assert list(figures) == ["detection", "publishing"]
    assert (figures["detection"].p50, figures["detection"].p95) == pytest.approx((50, 95))
    assert (figures["publishing"].p50, figures["publishing"].p95) == pytest.approx((5, 5))


def test_figures_omit_a_stage_idle_for_a_minute(timings: StageTimings, clock: FakeClock) -> None:
    assert timings.figures() == {}
    timings.record("detection", 0.1)
    assert list(timings.figures()) == ["detection"]
    clock.seconds += 61
    assert timings.figures() == {}


def test_ring_keeps_the_newest_measurements(clock: FakeClock) -> None:
    recent = Recent(clock)
    for number in range(CAPACITY + 10):
        recent.note(number)
    rows = recent.rows()
    assert (len(rows), rows[:, 1].min(), rows[:, 1].max()) == (CAPACITY, 10, CAPACITY + 9)
