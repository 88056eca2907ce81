"""A moving average of a model's weights over the steps of its training.

The average generalises better than the last weights (Polyak & Juditsky 1992; Tarvainen & Valpola
2017). Batch normalisation's statistics are averaged with the kernels that they belong to.
"""

from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

WARMUP_STEPS: Final = 10
"""At first the momentum is step / (step + this), so the random initial weights soon vanish."""


def ema_momentum(momentum: float, step: int) -> float:
    """The momentum of an average at a step, counted from 1: it rises to `momentum`."""
    return min(momentum, step / (step + WARMUP_STEPS))


class WeightAverage:
    """The average; `weights` are float32 arrays in the order of `model.weights`."""

    def __init__(self, model: keras.Model, momentum: float) -> None:
        self._momentum = momentum
        self.weights: list[NDArray[np.float32]] = _weights(model)

    def update(self, model: keras.Model, step: int) -> None:
        """Take in the model's weights after the given step, counted from 1."""
        momentum = ema_momentum(self._momentum, step)
        for average, weight in zip(self.weights, _weights(model), strict=True):
            average[...] += (1.0 - momentum) * (weight - average)


def _weights(model: keras.Model) -> list[NDArray[np.float32]]:
    return [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.weights]
