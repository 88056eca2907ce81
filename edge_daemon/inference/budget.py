"""How many members of the ensemble fit into the time that there is for one frame."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from edge_daemon._lib.clock import Clock

GAIN: Final = 0.1
"""How much one frame changes what a member is taken to cost."""

RESERVE: Final = 0.8
"""Part of the time into which one member more must fit than were asked last."""


class TimeBudget:
    """Chooses how many members are asked: as many as fit, in their order, and one at least.

    A member's cost is taken to be in proportion to its multiply-accumulates; in which proportion
    is learnt from how long answers took. One that was left out must fit with a reserve to be
    asked again, so that the number does not flicker.

    Args:
        mmac: million multiply-accumulates of each member for one face, in their order.
        seconds: the time for one frame.
        clock: where the time is read.
    """

    def __init__(self, mmac: Sequence[float], seconds: float, clock: Clock) -> None:
        self.most = len(mmac)
        """Members that are asked at most, however much time there is."""
        self._cost = np.cumsum(mmac)
        self._seconds = seconds
        self._clock = clock
        self._seconds_per_mmac = 0.0
        self._asked_last = self.most

    def adjust(self, seconds: float) -> None:
        """Take over another time."""
        self._seconds = seconds

    def members(self, faces: int) -> int:
        """How many may be asked about so many faces."""
        expected = faces * self._seconds_per_mmac * self._cost
        limits = np.where(np.arange(len(expected)) < self._asked_last, 1.0, RESERVE)
        fitting = int(np.count_nonzero(expected <= limits * self._seconds))
        self._asked_last = max(1, min(fitting, self.most))
        return self._asked_last

    @contextmanager
    def measured(self, faces: int, members: int) -> Iterator[None]:
        """Learn from how long the answers about so many faces by so many members take."""
        began = self._clock.monotonic()
        yield
        taken = (self._clock.monotonic() - began) / (faces * self._cost[members - 1])
        self._seconds_per_mmac += GAIN * (taken - self._seconds_per_mmac)
