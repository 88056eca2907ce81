"""Limits the ensemble's models to those that fit into the time for one frame."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.config.settings import SheddingSettings

GAIN: Final = 0.1
"""Weight of one frame in the estimated cost."""

RESERVE: Final = 0.8
"""Share of the budget into which an additional model must fit."""


class TimeBudget:
    """Chooses how many models to use: as many as fit, in their order, and at least one.

    The estimated cost of a model is proportional to its multiply-accumulates, with a factor
    measured at run time. An additional model must fit with a reserve, so that the number is stable.

    Args:
        mmac: million multiply-accumulates of each model for one face, in their order.
        settings: `budget` is the time for one frame.
        frame_interval_s: the time without a `budget`.
        clock: the clock to use.
    """

    def __init__(
        self,
        mmac: Sequence[float],
        settings: SheddingSettings,
        frame_interval_s: float,
        clock: Clock,
    ) -> None:
        self._max_models = len(mmac)
        self._cost = np.cumsum(mmac)
        self._frame_interval_s = frame_interval_s
        self._budget_s = settings.budget or frame_interval_s
        self._clock = clock
        self._seconds_per_mmac = 0.0
        self._models_used = self._max_models

    def apply(self, settings: SheddingSettings) -> None:
        """Use another budget."""
        self._budget_s = settings.budget or self._frame_interval_s

    def limit(self, models: int) -> None:
        """Use at most so many models, whatever the time."""
        self._max_models = models

    def models(self, faces: int) -> int:
        """Number of models that fit for so many faces; at least 1."""
        expected = faces * self._seconds_per_mmac * self._cost
        limits = np.where(np.arange(len(expected)) < self._models_used, 1.0, RESERVE)
        fitting = int(np.count_nonzero(expected <= limits * self._budget_s))
        self._models_used = max(1, min(fitting, self._max_models))
        return self._models_used

    @contextmanager
    def measured(self, faces: int, models: int) -> Iterator[None]:
        """Measure the time that so many models take for so many faces."""
        began = self._clock.monotonic()
        yield
        measured = (self._clock.monotonic() - began) / (faces * self._cost[models - 1])
        self._seconds_per_mmac += GAIN * (measured - self._seconds_per_mmac)
