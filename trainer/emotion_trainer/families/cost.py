"""What a network costs to run."""

import math

import keras
from keras import layers


def mmac(model: keras.Model) -> float:
    """Million multiply-accumulates for one face, in convolutions and dense layers.

    Batch normalisation is not counted: it is folded into the convolutions before it runs.
    """
    return sum(_macs(layer) for layer in model.layers) / 1e6


def parameters(model: keras.Model) -> int:
    """Learnt weights that are left after batch normalisation is folded: kernels and biases.

    A normalised convolution has no bias of its own and gets one a channel by the folding.
    """
    return sum(_parameters(layer) for layer in model.layers)


def _macs(layer: keras.Layer) -> int:
    if isinstance(layer, layers.Conv2D):
        positions = math.prod(layer.output.shape[1:3])
        return int(positions * math.prod(layer.kernel.shape))
    if isinstance(layer, layers.Dense):
        return math.prod(layer.kernel.shape)
    return 0


def _parameters(layer: keras.Layer) -> int:
    if isinstance(layer, layers.Conv2D | layers.Dense):
        return math.prod(layer.kernel.shape) + layer.kernel.shape[-1]
    return 0
