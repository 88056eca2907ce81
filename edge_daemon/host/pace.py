"""How fast results come, and how late: the figures of the last minute."""

import threading
from typing import Final, NamedTuple

import numpy as np

from edge_daemon.clock import Clock
from edge_daemon.publishing.messages import LatencyMessage
from edge_daemon.records import FrameResult

WINDOW: Final = 60.0
"""Seconds that are looked back upon."""

CAPACITY: Final = 240 * 60
"""Results kept at most; of a source that is faster still, the figures are of a shorter time."""

SHORTEST: Final = 1.0
"""Seconds that a rate is taken over at least: the first result alone has no rate."""


class Figures(NamedTuple):
    """What was so in the last minute."""

    fps_in: float
    """Frames a second that the source gave, also those that were dropped."""
    fps_out: float
    """Results a second."""
    latency: LatencyMessage | None
    """None without a result."""


class Pace:
    """Notes results as they come, in one thread; tells the figures in any."""

    def __init__(self, clock: Clock) -> None:
        self.frames = 0
        """Frames that the source gave until the newest result."""
        self.results = 0
        self.seconds_late = 0.0
        """Sum of all results' latencies."""
        self._clock = clock
        self._began = clock.monotonic()
        self._ring = np.full((CAPACITY, 3), -np.inf)  # when, seconds late, the frame's number
        self._lock = threading.Lock()

    def note(self, result: FrameResult) -> None:
        """Take a result into account, now that it is ready to be published."""
        frame, now = result.frame, self._clock.monotonic()
        late = now - frame.captured_monotonic
        with self._lock:
            self._ring[self.results % CAPACITY] = now, late, frame.index
            self.frames = frame.index + 1
            self.results += 1
            self.seconds_late += late

    def figures(self) -> Figures:
        now = self._clock.monotonic()
        with self._lock:
            when, late, numbers = self._ring[self._ring[:, 0] > now - WINDOW].T
        if len(when) == 0:
            return Figures(0.0, 0.0, None)
        began = when.min() if len(when) == CAPACITY else self._began
        seconds = min(WINDOW, max(SHORTEST, now - began))
        p50, p95 = 1000 * np.percentile(late, (50, 95))
        return Figures(
            fps_in=(numbers.max() - numbers.min() + 1) / seconds,
            fps_out=len(when) / seconds,
            latency=LatencyMessage(p50=round(p50, 1), p95=round(p95, 1)),
        )
