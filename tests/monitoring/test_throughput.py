import dataclasses
import tracemalloc

import pytest
from builders import frame
from conftest import FakeClock

from edge_daemon.monitoring.throughput import CAPACITY, Pace
from edge_daemon.records import FrameResult


def note(pace: Pace, clock: FakeClock, index: int, late: float = 0.02) -> None:
    """A result that is ready now, `late` seconds after its capture."""
    captured = dataclasses.replace(frame(index=index), captured_monotonic=clock.seconds - late)
    pace.note(FrameResult(captured, (), frozenset()))


@pytest.fixture
def pace(clock: FakeClock) -> Pace:
    return Pace(clock)


def test_before_the_first_result_there_is_no_latency_and_no_rate(pace: Pace) -> None:
    assert pace.figures() == (0.0, 0.0, None)
    assert (pace.frames, pace.results) == (0, 0)


def test_rates_tell_results_and_the_frames_dropped_between_them(
    pace: Pace, clock: FakeClock
) -> None:
    for index in range(0, 300, 3):
        clock.seconds += 0.2
        note(pace, clock, index)
    fps_in, fps_out, _ = pace.figures()
    assert fps_out == pytest.approx(5.0)
    assert fps_in == pytest.approx(15.0, rel=0.01)
    assert (pace.frames, pace.results) == (298, 100)


def test_only_the_last_minute_counts(pace: Pace, clock: FakeClock) -> None:
    for index in range(900):
        clock.seconds += 0.1
        note(pace, clock, index, late=1.0 if index < 300 else 0.01)
    fps_in, fps_out, latency = pace.figures()
    assert (fps_in, fps_out) == pytest.approx((10.0, 10.0), rel=0.01)
    assert latency is not None
    assert (latency.p50, latency.p95) == (10.0, 10.0)
    clock.seconds += 30
    assert pace.figures().fps_out == pytest.approx(5.0, rel=0.01)
    clock.seconds += 31
    assert pace.figures() == (0.0, 0.0, None)


def test_quantiles_are_of_the_latencies_in_milliseconds(pace: Pace, clock: FakeClock) -> None:
    for index in range(101):
        clock.seconds += 0.1
        note(pace, clock, index, late=index / 1000)
    latency = pace.figures().latency
    assert latency is not None
    assert (latency.p50, latency.p95) == pytest.approx((50.0, 95.0))
    assert pace.seconds_late == pytest.approx(5.05)


def test_first_results_alone_are_no_rate(pace: Pace, clock: FakeClock) -> None:
    note(pace, clock, 0)
    assert pace.figures().fps_out == 1.0


def test_fastest_sources_rate_is_of_a_shorter_time_in_memory_of_the_same_size(
    pace: Pace, clock: FakeClock
) -> None:
    tracemalloc.start()
    for index in range(2 * CAPACITY):
        clock.seconds += 0.001
        note(pace, clock, index)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    fps_in, fps_out, _ = pace.figures()
    assert (fps_in, fps_out) == pytest.approx((1000.0, 1000.0), rel=0.01)
    assert grown < 100_000
