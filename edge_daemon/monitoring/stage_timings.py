"""How long each stage works on a frame: the figures of the last minute."""

import threading

from edge_daemon._lib.clock import Clock
from edge_daemon.monitoring.rolling_window import Recent, quantiles
from edge_daemon.schema import LatencyMessage


class StageTimings:
    """Records the durations of frames in each stage; used by any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent: dict[str, Recent] = {}
        self._lock = threading.Lock()

    def record(self, stage: str, seconds: float) -> None:
        """Add the duration of one frame."""
        with self._lock:
            if stage not in self._recent:
                self._recent[stage] = Recent(self._clock)
            self._recent[stage].note(seconds)

    def figures(self) -> dict[str, LatencyMessage]:
        """Median and 95th percentile of each stage that processed frames in the last minute."""
        with self._lock:
            seconds = {name: recent.rows()[:, 1] for name, recent in self._recent.items()}
        figures = {name: quantiles(each) for name, each in seconds.items()}
        return {name: latency for name, latency in figures.items() if latency is not None}
