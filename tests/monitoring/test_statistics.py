import dataclasses
import tracemalloc

import pytest
from builders import frame
from conftest import FakeClock

from edge_daemon.monitoring import statistics
from edge_daemon.monitoring.statistics import (
    BUCKET_BOUNDS_S,
    MAX_SAMPLES,
    Durations,
    StageTimings,
    Throughput,
)
from edge_daemon.records import FrameResult

FRAME = frame()


@pytest.fixture
def throughput(clock: FakeClock) -> Throughput:
    return Throughput(clock)


@pytest.fixture
def timings(clock: FakeClock) -> StageTimings:
    return StageTimings(clock)


def record(throughput: Throughput, clock: FakeClock, index: int, latency_s: float = 0.02) -> None:
    """A result that is ready now, captured `latency_s` earlier."""
    captured_at = clock.seconds - latency_s
    captured = dataclasses.replace(FRAME, index=index, captured_monotonic_s=captured_at)
    throughput.record(FrameResult(captured, (), frozenset()))


def test_durations_overflow_keeps_newest(clock: FakeClock) -> None:
    durations = Durations(clock)
    for number in range(MAX_SAMPLES + 10):
        durations.add(number)
    rows = durations.rows()
    assert (len(rows), rows[:, 1].min(), rows[:, 1].max()) == (MAX_SAMPLES, 10, MAX_SAMPLES + 9)


def test_histogram_counts_each_duration_in_one_bucket(clock: FakeClock) -> None:
    durations = Durations(clock)
    for seconds in (0.0005, 0.001, 0.0011, 9.0, 100.0):
        durations.add(seconds)
    histogram = durations.histogram()
    counts = dict(zip([*BUCKET_BOUNDS_S, "inf"], histogram.counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {
        0.001: 2,
        0.0025: 1,
        10.0: 1,
        "inf": 1,
    }
    assert histogram.sum_s == pytest.approx(109.0026)


def test_histogram_is_a_snapshot(clock: FakeClock) -> None:
    durations = Durations(clock)
    snapshot = durations.histogram()
    durations.add(1.0)
    assert (sum(snapshot.counts), snapshot.sum_s) == (0, 0.0)


def test_throughput_without_results_has_no_rates(throughput: Throughput) -> None:
    assert throughput.rates() == (0.0, 0.0, None)
    assert throughput.frames == 0
    assert sum(throughput.latency_histogram().counts) == 0


def test_throughput_rates_include_dropped_frames(throughput: Throughput, clock: FakeClock) -> None:
    for index in range(0, 300, 3):
        clock.seconds += 0.2
        record(throughput, clock, index)
    fps_in, fps_out, _ = throughput.rates()
    assert fps_out == pytest.approx(5.0)
    assert fps_in == pytest.approx(15.0, rel=0.01)
    assert throughput.frames == 298


def test_throughput_rates_cover_the_last_minute(throughput: Throughput, clock: FakeClock) -> None:
    for index in range(900):
        clock.seconds += 0.1
        record(throughput, clock, index, latency_s=1.0 if index < 300 else 0.01)
    fps_in, fps_out, latency = throughput.rates()
    assert (fps_in, fps_out) == pytest.approx((10.0, 10.0), rel=0.01)
    assert latency is not None
    assert (latency.p50, latency.p95) == (10.0, 10.0)
    clock.seconds += 30
    assert throughput.rates().fps_out == pytest.approx(5.0, rel=0.01)
    clock.seconds += 31
    assert throughput.rates() == (0.0, 0.0, None)


def test_throughput_latency_in_milliseconds_and_seconds(
    throughput: Throughput, clock: FakeClock
) -> None:
    for index in range(101):
        clock.seconds += 0.1
        record(throughput, clock, index, latency_s=index / 1000)
    latency = throughput.rates().latency
    assert latency is not None
    assert (latency.p50, latency.p95) == pytest.approx((50.0, 95.0))
    histogram = throughput.latency_histogram()
    assert (sum(histogram.counts), histogram.sum_s) == (101, pytest.approx(5.05))


def test_throughput_single_result_is_averaged_over_a_second(
    throughput: Throughput, clock: FakeClock
) -> None:
    record(throughput, clock, 0)
    assert throughput.rates().fps_out == 1.0


def test_throughput_at_high_rate_keeps_memory_bounded(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    samples = 1000
    monkeypatch.setattr(statistics, "MAX_SAMPLES", samples)
    throughput = Throughput(clock)
    tracemalloc.start()
    for index in range(2 * samples):
        clock.seconds += 0.001
        record(throughput, clock, index)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    fps_in, fps_out, _ = throughput.rates()
    assert (fps_in, fps_out) == pytest.approx((1000.0, 1000.0), rel=0.01)
    assert grown < 10_000


def test_stage_timings_quantiles_by_stage_in_milliseconds(timings: StageTimings) -> None:
    for number in range(101):
        timings.record("detection", number / 1000)
        timings.record("publishing", 0.005)
    quantiles = timings.quantiles()
    assert list(quantiles) == ["detection", "publishing"]
    assert (quantiles["detection"].p50, quantiles["detection"].p95) == pytest.approx((50, 95))
    assert (quantiles["publishing"].p50, quantiles["publishing"].p95) == pytest.approx((5, 5))


def test_stage_timings_idle_stage_has_no_quantiles(timings: StageTimings, clock: FakeClock) -> None:
    assert timings.quantiles() == {}
    timings.record("detection", 0.01)
    clock.seconds += 61
    assert timings.quantiles() == {}


def test_stage_timings_histograms_count_since_start(
    timings: StageTimings, clock: FakeClock
) -> None:
    timings.record("detection", 0.01)
    clock.seconds += 3600
    timings.record("detection", 0.02)
    (histogram,) = timings.histograms().values()
    assert (sum(histogram.counts), histogram.sum_s) == (2, pytest.approx(0.03))
