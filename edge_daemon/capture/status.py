"""How a source is, through all its openings: told in the log once, and kept for whoever asks."""

import logging

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.observable import Observable
from edge_daemon.errors import SourceLost
from edge_daemon.records import SourceState

logger = logging.getLogger(__name__)


class SourceStatus(Observable):
    """Written by one thread at a time, the one that reads the source; `state` is for any to read.

    Args:
        source: the source's name.
        clock: where the time is read.
    """

    def __init__(self, source: str, clock: Clock) -> None:
        super().__init__()
        self.state = SourceState.STARTING
        self._source = source
        self._clock = clock
        self._lost_at: float | None = None

    def starting(self) -> None:
        self._enter(SourceState.STARTING)

    def paused(self) -> None:
        self._enter(SourceState.PAUSED)

    def lost(self, told: SourceLost | None = None) -> None:
        """It gives no more frames; `told` says why, unless that is in the log already."""
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            if told is not None:
                logger.warning("source lost, trying again", extra={"error": str(told)})
        self._enter(SourceState.LOST)

    def running(self) -> None:
        """It gave a frame."""
        if self._lost_at is not None:
            away = round(self._clock.monotonic() - self._lost_at, 1)
            self._lost_at = None
            logger.info("source is back", extra={"source": self._source, "seconds": away})
        self._enter(SourceState.RUNNING)

    def _enter(self, state: SourceState) -> None:
        if state == self.state:
            return
        self.state = state
        self._notify()
