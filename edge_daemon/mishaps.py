"""Frames that a stage fails with: few are left out and counted, too many in a row end the program.

A camera's next frame is a moment away, and a restart forgets who is in sight. What fails again and
again is mended by a restart, if by anything.
"""

import logging
from typing import Final

from edge_daemon.clock import Clock
from edge_daemon.errors import PipelineError, in_one_line

logger = logging.getLogger(__name__)

MOST_IN_A_ROW: Final = 10
"""Frames that may fail one after the other."""

TELLING_INTERVAL: Final = 60.0
"""Seconds between two lines in the log at least."""


class Mishaps:
    """How often a stage failed. Written by its thread; `count` is for any to read."""

    def __init__(self, stage: str, clock: Clock) -> None:
        self.count = 0
        self._stage = stage
        self._clock = clock
        self._in_a_row = 0
        self._told_at = float("-inf")

    def note(self, error: Exception) -> None:
        """A frame failed.

        Raises:
            PipelineError: too many did, one after the other.
        """
        self.count += 1
        self._in_a_row += 1
        if self._in_a_row >= MOST_IN_A_ROW:
            raise PipelineError(
                f"{self._stage} failed with {self._in_a_row} frames in a row: {in_one_line(error)}"
            ) from error
        now = self._clock.monotonic()
        if now - self._told_at >= TELLING_INTERVAL:
            self._told_at = now
            logger.error(  # where it was raised is for whoever looks for a bug
                "a frame is left out, its stage failed",
                extra={"stage": self._stage, "error": in_one_line(error), "count": self.count},
                exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
            )

    def overcome(self) -> None:
        """A frame went through."""
        self._in_a_row = 0
