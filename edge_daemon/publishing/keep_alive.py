"""Whether the pipeline lives: a connection alone says nothing of the camera behind it."""

import logging
from collections.abc import Callable

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.outage import Episode

logger = logging.getLogger(__name__)


class Liveness:
    """Knows whether results come, or need not come, since the source is paused.

    Args:
        stale_after: seconds without a result after which the pipeline is not alive.
        paused: tells whether the source is paused.
        clock: where the time is read.
    """

    def __init__(self, stale_after: float, paused: Callable[[], bool], clock: Clock) -> None:
        self._stale_after = stale_after
        self._paused = paused
        self._clock = clock
        self._last_sign = clock.monotonic()
        self._stale = Episode(clock)

    def note(self) -> None:
        """There is a result."""
        self._last_sign = self._clock.monotonic()

    def alive(self) -> bool:
        """Whether all is well; a change is told in the log."""
        if self._paused():
            self.note()
        if self._clock.monotonic() - self._last_sign > self._stale_after:
            if self._stale.begin():
                logger.warning(
                    "no results come: telling that the device is offline",
                    extra={"seconds": self._stale_after},
                )
        elif (lasted := self._stale.end()) is not None:
            logger.info("results come again", extra={"seconds": lasted})
        return not self._stale.going_on
