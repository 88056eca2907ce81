"""How fast results come, and how late: the figures of the last minute."""

import threading
from typing import Final, NamedTuple

from edge_daemon._lib.clock import Clock
from edge_daemon.monitoring.rolling_window import CAPACITY, WINDOW, Recent, quantiles
from edge_daemon.records import FrameResult
from edge_daemon.schema import LatencyMessage

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
        self._recent = Recent(clock, columns=2)  # seconds late, the frame's number
        self._lock = threading.Lock()

    def note(self, result: FrameResult) -> None:
        """Take a result into account, now that it is ready to be published."""
        frame = result.frame
        late = self._clock.monotonic() - frame.captured_monotonic
        with self._lock:
            self._recent.note(late, frame.index)
            self.frames = frame.index + 1
            self.results += 1
            self.seconds_late += late

    def figures(self) -> Figures:
        now = self._clock.monotonic()
        with self._lock:
            when, late, numbers = self._recent.rows().T
        if len(when) == 0:
            return Figures(0.0, 0.0, None)
        began = when.min() if len(when) == CAPACITY else self._began
        seconds = min(WINDOW, max(SHORTEST, now - began))
        return Figures(
            fps_in=(numbers.max() - numbers.min() + 1) / seconds,
            fps_out=len(when) / seconds,
            latency=quantiles(late),
        )
