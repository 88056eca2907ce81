"""The topic `availability`: a connection alone does not show that the pipeline works."""

import logging
from collections.abc import Callable
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.outage import Outage
from edge_daemon.publishing.topics import Message

logger = logging.getLogger(__name__)

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"


class Availability:
    """Online while results come, or the source is paused.

    Args:
        topic: where to publish it.
        stale_after_s: time without a result after which the device is offline.
        is_paused: whether the source is paused.
        clock: the clock to use.
    """

    def __init__(
        self, topic: str, stale_after_s: float, is_paused: Callable[[], bool], clock: Clock
    ) -> None:
        self.offline = Message(topic, OFFLINE, retain=True, qos=1)
        """The message of a device that is not there; also the will."""
        self._online = Message(topic, ONLINE, retain=True, qos=1)
        self._stale_after_s = stale_after_s
        self._is_paused = is_paused
        self._clock = clock
        self._last_result = clock.monotonic()
        self._stale = Outage(clock)

    def note_result(self) -> None:
        """A result has come, in any thread."""
        self._last_result = self._clock.monotonic()

    def current(self) -> Message:
        """The present availability; logs when it changes."""
        if self._is_paused():
            self.note_result()
        if self._clock.monotonic() - self._last_result > self._stale_after_s:
            if self._stale.begin():
                logger.warning(
                    "no results, publishing offline", extra={"seconds": self._stale_after_s}
                )
        elif (seconds := self._stale.end()) is not None:
            logger.info("results again, publishing online", extra={"seconds": seconds})
        return self.offline if self._stale.is_active else self._online
