"""Statistics of the running pipeline: throughput, latency, and the time each stage takes.

Rates and quantiles cover the last minute; counters and histograms cover the time since the start.
"""

import threading
from bisect import bisect_left
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Histogram:
    """Durations counted by bucket since the start."""

    counts: tuple[int, ...]
    """Durations per bucket, not cumulative."""
    sum_s: float


class Durations:
    """Durations, each in the last minute and all since the start. Not thread-safe.

    Args:
        clock: the clock to use.
        columns: further numbers per duration.
    """

    def __init__(self, clock: Clock, columns: int = 0) -> None:
        self._clock = clock
        self._ring = np.full((MAX_SAMPLES, 2 + columns), -np.inf)
        self._count = 0
        self._bucket_counts = [0] * (len(BUCKET_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float, *values: float) -> None:
        """Add a duration that ends now."""
        self._ring[self._count % MAX_SAMPLES] = self._clock.monotonic(), seconds, *values
        self._count += 1
        self._bucket_counts[bisect_left(BUCKET_BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def rows(self) -> NDArray[np.float64]:
        """The last minute, float64 [N, 2 + columns]: the time, the duration, further numbers."""
        return self._ring[self._ring[:, 0] > self._clock.monotonic() - WINDOW_S]

    def histogram(self) -> Histogram:
        """All durations since the start."""
        return Histogram(tuple(self._bucket_counts), self._sum_s)


def quantiles(seconds: NDArray[np.float64]) -> LatencyMessage | None:
    """Median and 95th percentile in milliseconds; None without samples."""
    if len(seconds) == 0:
        return None
    p50, p95 = 1000 * np.percentile(seconds, (50, 95))
    return LatencyMessage(p50=round(p50, 1), p95=round(p95, 1))


class Rates(NamedTuple):
    """Throughput and latency of the last minute."""

    fps_in: float
    """Frames per second taken from the source, including those that a stage drops."""
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
        self._latencies = Durations(clock, columns=1)  # the frame's index
        self._lock = threading.Lock()

    def record(self, result: FrameResult) -> None:
        """Record a result that is ready to be published."""
        frame = result.frame
        latency_s = self._clock.monotonic() - frame.captured_monotonic_s
        with self._lock:
            self._latencies.add(latency_s, frame.index)
            self.frames = frame.index + 1

    def rates(self) -> Rates:
        """Rates and latency of the last minute."""
        now = self._clock.monotonic()
        with self._lock:
            times, latencies, indices = self._latencies.rows().T
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
            return self._latencies.histogram()


class StageTimings:
    """Records how long each stage works on a frame. Any thread may record or read.

    Args:
        clock: the clock to use.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stages: dict[str, Durations] = {}
        self._lock = threading.Lock()

    def record(self, stage: str, seconds: float) -> None:
        """Add the duration of one frame in a stage."""
        with self._lock:
            if stage not in self._stages:
                self._stages[stage] = Durations(self._clock)
            self._stages[stage].add(seconds)

    def quantiles(self) -> dict[str, LatencyMessage]:
        """Durations of the last minute by stage; idle stages are left out."""
        with self._lock:
            seconds = {name: stage.rows()[:, 1] for name, stage in self._stages.items()}
        summaries = {name: quantiles(each) for name, each in seconds.items()}
        return {name: summary for name, summary in summaries.items() if summary is not None}

    def histograms(self) -> dict[str, Histogram]:
        """Durations since the start, by stage."""
        with self._lock:
            return {name: stage.histogram() for name, stage in self._stages.items()}
