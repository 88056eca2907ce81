"""Checks of a camera's frames for what is no error, but leaves nothing to see.

The lens is covered, a shutter closed, or it is night; or the camera repeats one frame. The program
cannot fix these, so it logs when one begins and when it ends.
"""

import logging
from typing import Final

import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.outage import Outage
from edge_daemon.records import Image

logger = logging.getLogger(__name__)

MAX_DARK_GREY: Final = 10.0
"""Mean grey, 0 to 255, below which a frame is dark: no detector finds a face in it."""

CHECK_INTERVAL_S: Final = 1.0

CHECKS_UNTIL_LOGGED: Final = 60
"""Checks in a row that must find a condition before it is logged: lights go out for moments."""

STEP: Final = 16
"""One pixel of so many is checked, in each direction."""


class FrameChecks:
    """Checks the frames of one camera for darkness, and for identical frames.

    A sensor has noise, so two of its frames are never identical.

    Args:
        source: the source's name.
        clock: where the time is read.
    """

    def __init__(self, source: str, clock: Clock) -> None:
        self._clock = clock
        self._next_check = clock.monotonic()
        self._last: Image | None = None
        self._dark = _Condition(source, clock, "image is dark", "image is bright again")
        self._frozen = _Condition(source, clock, "image is frozen", "image changes again")

    def check(self, bgr: Image) -> None:
        """Check a frame, BGR uint8, unless the last check was a moment ago."""
        now = self._clock.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL_S
        sample = bgr[::STEP, ::STEP].copy()
        self._dark.update(holds=float(sample.mean()) < MAX_DARK_GREY)
        self._frozen.update(holds=self._last is not None and np.array_equal(sample, self._last))
        self._last = sample


class _Condition:
    """Something that lasts: logged once it has held for a while, and once more when it ends."""

    def __init__(self, source: str, clock: Clock, begin_event: str, end_event: str) -> None:
        self._source = source
        self._begin_event = begin_event
        self._end_event = end_event
        self._checks = 0
        self._episode = Outage(clock)

    def update(self, *, holds: bool) -> None:
        if not holds:
            self._checks = 0
            if (lasted_s := self._episode.end()) is not None:
                extra = {"source": self._source, "seconds": lasted_s}
                logger.info(self._end_event, extra=extra)
            return
        self._checks += 1
        if self._checks >= CHECKS_UNTIL_LOGGED and self._episode.begin():
            logger.warning(self._begin_event, extra={"source": self._source})
