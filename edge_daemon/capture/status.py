"""The state of a source through all its openings, for other threads and for the log."""

import logging
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.observable import Observable
from edge_daemon.errors import SourceLost
from edge_daemon.records import SourceState

logger = logging.getLogger(__name__)

LOG_INTERVAL_S: Final = 60.0
"""Shortest time between two losses in the log: a bad network may cause one each second."""

MAX_REASONS: Final = 3
"""Different reasons that the log gives for one loss."""


class SourceStatus(Observable):
    """Written by one thread at a time, the one that reads the source; any thread reads `state`.

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
        self._logged_at = float("-inf")
        self._is_logged = False
        self._suppressed = 0
        self._reasons: list[str] = []

    def starting(self) -> None:
        self._enter(SourceState.STARTING)

    def paused(self) -> None:
        self._enter(SourceState.PAUSED)

    def lost(self, error: SourceLost | None = None) -> None:
        """Note that it gives no more frames.

        Args:
            error: the reason; None if it is in the log already.
        """
        if self._lost_at is None:
            self._begin_loss(error)
        elif error is not None and self._is_logged:
            self._log_other_reason(str(error))
        self._enter(SourceState.LOST)

    def running(self) -> None:
        """Note that it gave a frame."""
        if self._lost_at is not None:
            away_s = round(self._clock.monotonic() - self._lost_at, 1)
            self._lost_at = None
            if self._is_logged:
                logger.info("source is back", extra={"source": self._source, "seconds": away_s})
        self._enter(SourceState.RUNNING)

    def _begin_loss(self, error: SourceLost | None) -> None:
        now = self._clock.monotonic()
        self._lost_at = now
        self._is_logged = error is None or now - self._logged_at >= LOG_INTERVAL_S
        if not self._is_logged:
            self._suppressed += 1
        elif error is not None:
            self._reasons = [str(error)]
            self._logged_at = now
            extra: dict[str, object] = {"error": str(error)}
            if self._suppressed:
                extra["suppressed"] = self._suppressed
            self._suppressed = 0
            logger.warning("source lost, trying again", extra=extra)

    def _log_other_reason(self, reason: str) -> None:
        """A stream that ended may refuse the next connection, which hints at the cause."""
        if reason not in self._reasons and len(self._reasons) < MAX_REASONS:
            self._reasons.append(reason)
            logger.warning("source still lost, trying again", extra={"error": reason})

    def _enter(self, state: SourceState) -> None:
        if state == self.state:
            return
        self.state = state
        self._notify()
