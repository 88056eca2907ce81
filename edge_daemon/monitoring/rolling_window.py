"""Measurements of the last minute, and what is typical of them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.clock import Clock
from edge_daemon.schema import LatencyMessage

WINDOW: Final = 60.0
"""Seconds that are looked back upon."""

CAPACITY: Final = 240 * 60
"""Measurements kept at most; where more come in a minute, the figures are of a shorter time."""


class Recent:
    """A ring of measurements, each with its time. Not for several threads at once.

    Args:
        clock: where the time is read.
        columns: numbers in one measurement.
    """

    def __init__(self, clock: Clock, columns: int = 1) -> None:
        self._clock = clock
        self._ring = np.full((CAPACITY, 1 + columns), -np.inf)
        self._noted = 0

    def note(self, *values: float) -> None:
        self._ring[self._noted % CAPACITY] = self._clock.monotonic(), *values
        self._noted += 1

    def rows(self) -> NDArray[np.float64]:
        """Those of the last minute, float64 [N, 1 + columns]: when, and the numbers."""
        return self._ring[self._ring[:, 0] > self._clock.monotonic() - WINDOW]


def quantiles(seconds: NDArray[np.float64]) -> LatencyMessage | None:
    """Median and 95th percentile in milliseconds; None where there is nothing."""
    if len(seconds) == 0:
        return None
    p50, p95 = 1000 * np.percentile(seconds, (50, 95))
    return LatencyMessage(p50=round(p50, 1), p95=round(p95, 1))
