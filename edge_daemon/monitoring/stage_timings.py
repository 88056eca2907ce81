"""How long each stage works on a frame: the figures of the last minute."""

import threading
from collections.abc import Sequence
from typing import Any

from edge_daemon._lib.clock import Clock
from edge_daemon.monitoring.rolling_window import Recent, quantiles
from edge_daemon.pipeline import Step, in_a_row
from edge_daemon.schema import LatencyMessage


class StageTimes:
    """Takes the time of stages, each in its own thread; tells the figures in any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent: dict[str, Recent] = {}
        self._lock = threading.Lock()

    def stages(self, stages: Sequence[tuple[str, Sequence[Step]]]) -> list[tuple[str, list[Step]]]:
        """The stages, each timed as a whole."""
        return [(name, self.timed(name, steps)) for name, steps in stages]

    def timed(self, name: str, steps: Sequence[Step]) -> list[Step]:
        """The stage's steps as one, which takes the time of each item."""
        recent = self._recent[name] = Recent(self._clock)
        work = in_a_row(steps)

        def run(item: Any) -> Any:  # noqa: ANN401  # as a step does
            began = self._clock.monotonic()
            item = work(item)
            with self._lock:
                recent.note(self._clock.monotonic() - began)
            return item

        return [run]

    def figures(self) -> dict[str, LatencyMessage]:
        """Of each stage that had something to do, in the order in which frames go through."""
        with self._lock:
            seconds = {name: recent.rows()[:, 1] for name, recent in self._recent.items()}
        told = {name: quantiles(each) for name, each in seconds.items()}
        return {name: latency for name, latency in told.items() if latency is not None}
