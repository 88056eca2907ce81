"""Statistics of the running pipeline: throughput, latency, and the time each stage takes.

Rates and quantiles cover the last minute; counters and histograms cover the time since the start.
"""

import threading
from bisect import bisect_left
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.clock import Clock
from edge_daemon.records import FrameResult
from edge_daemon.schema import LatencyMessage

WINDOW_S: Final = 60.0
"""Length of the rolling window."""

MAX_SAMPLES: Final = 240 * 60
"""Samples in a window; at a higher rate, the window covers less time."""

MIN_RATE_PERIOD_S: Final = 1.0
"""Shortest period that a rate is averaged over: one result alone has no rate."""

BUCKET_BOUNDS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1),
    *(0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of a histogram's buckets; a last bucket has no bound."""


class RollingWindow:
    """A ring buffer of samples of the last minute. Not thread-safe.

    Args:
        clock: source of the sample times.
        columns: numbers per sample.
    """

    def __init__(self, clock: Clock, columns: int = 1) -> None:
        self._clock = clock
        self._ring = np.full((MAX_SAMPLES, 1 + columns), -np.inf)
        self._count = 0

    def add(self, *values: float) -> None:
        """Add a sample, taken now."""
        self._ring[self._count % MAX_SAMPLES] = self._clock.monotonic(), *values
        self._count += 1

    def rows(self) -> NDArray[np.float64]:
        """Samples of the last minute, float64 [N, 1 + columns]: the time, then the numbers."""
        return self._ring[self._ring[:, 0] > self._clock.monotonic() - WINDOW_S]


class Histogram:
    """Durations counted by bucket since the start. Not thread-safe."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKET_BOUNDS_S) + 1)
        """Observations per bucket, not cumulative."""
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BUCKET_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def copy(self) -> "Histogram":
        """A snapshot, which later observations do not change."""
        snapshot = Histogram()
        snapshot.counts, snapshot.sum_s = self.counts.copy(), self.sum_s
        return snapshot


def quantiles(seconds: NDArray[np.float64]) -> LatencyMessage | None:
    """Median and 95th percentile in milliseconds; None without samples."""
    if len(seconds) == 0:
        return None
    p50, p95 = 1000 * np.percentile(seconds, (50, 95))
    return LatencyMessage(p50=round(p50, 1), p95=round(p95, 1))


class Rates(NamedTuple):
    """Throughput and latency of the last minute."""

    fps_in: float
    """Frames per second from the source, including dropped ones."""
    fps_out: float
    """Results per second."""
    latency: LatencyMessage | None
    """None without a result."""


class Throughput:
    """Records results as they leave the pipeline. Written by one thread, read by any."""

    def __init__(self, clock: Clock) -> None:
        self.frames = 0
        """Frames from the source, up to that of the newest result."""
        self._clock = clock
        self._started = clock.monotonic()
        self._window = RollingWindow(clock, columns=2)  # latency in seconds, frame index
        self._latency = Histogram()
        self._lock = threading.Lock()

    def record(self, result: FrameResult) -> None:
        """Record a result that is ready to be published."""
        frame = result.frame
        latency_s = self._clock.monotonic() - frame.captured_monotonic
        with self._lock:
            self._window.add(latency_s, frame.index)
            self._latency.observe(latency_s)
            self.frames = frame.index + 1

    def rates(self) -> Rates:
        """Rates and latency of the last minute."""
        now = self._clock.monotonic()
        with self._lock:
            times, latencies, indices = self._window.rows().T
        if len(times) == 0:
            return Rates(0.0, 0.0, None)
        started = times.min() if len(times) == MAX_SAMPLES else self._started
        period_s = min(WINDOW_S, max(MIN_RATE_PERIOD_S, now - started))
        return Rates(
            fps_in=(indices.max() - indices.min() + 1) / period_s,
            fps_out=len(times) / period_s,
            latency=quantiles(latencies),
        )

    def latency_histogram(self) -> Histogram:
        """Latencies of all results since the start."""
        with self._lock:
            return self._latency.copy()


class StageTimings:
    """Records how long each stage works on a frame. Any thread may record or read.

    Args:
        clock: source of the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[str, RollingWindow] = {}
        self._histograms: dict[str, Histogram] = {}
        self._lock = threading.Lock()

    def record(self, stage: str, seconds: float) -> None:
        """Add the duration of one frame in a stage."""
        with self._lock:
            if stage not in self._windows:
                self._windows[stage] = RollingWindow(self._clock)
                self._histograms[stage] = Histogram()
            self._windows[stage].add(seconds)
            self._histograms[stage].observe(seconds)

    def quantiles(self) -> dict[str, LatencyMessage]:
        """Durations of the last minute by stage; idle stages are left out."""
        with self._lock:
            seconds = {name: window.rows()[:, 1] for name, window in self._windows.items()}
        summaries = {name: quantiles(each) for name, each in seconds.items()}
        return {name: summary for name, summary in summaries.items() if summary is not None}

    def histograms(self) -> dict[str, Histogram]:
        """Durations since the start, by stage."""
        with self._lock:
            return {name: histogram.copy() for name, histogram in self._histograms.items()}
