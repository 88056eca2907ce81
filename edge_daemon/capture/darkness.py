"""A camera that shows nothing: its lens is covered, a shutter closed, or it is night.

None of these is a fault that the program could mend, so one line tells of it, and one of its end.
"""

import logging
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.outage import Episode
from edge_daemon.records import Image

logger = logging.getLogger(__name__)

DARK: Final = 10.0
"""Mean grey, 0 to 255, below which a picture is dark: no detector finds a face in it."""

LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks."""

PATIENCE: Final = 60
"""Looks in a row that find it dark until that is told: somebody may just have put the light out."""

STEP: Final = 16
"""One pixel in so many is looked at, each way."""


class Darkness:
    """Watches the pictures of a source.

    Args:
        source: the source's name.
        clock: where the time is read.
    """

    def __init__(self, source: str, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._next_look = clock.monotonic()
        self._dark_looks = 0
        self._told = Episode(clock)

    def look(self, bgr: Image) -> None:
        """Take a picture into account: BGR uint8."""
        now = self._clock.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL
        if float(bgr[::STEP, ::STEP].mean()) >= DARK:
            self._dark_looks = 0
            if (lasted := self._told.end()) is not None:
                extra = {"source": self._source, "seconds": lasted}
                logger.info("the picture is bright again", extra=extra)
            return
        self._dark_looks += 1
        if self._dark_looks >= PATIENCE and self._told.begin():
            logger.warning(
                "the picture is dark; is the lens covered?", extra={"source": self._source}
            )
