"""The cost of a network: multiply-accumulates and parameters."""

import math

import keras
from keras import layers


def mmac(model: keras.Model) -> float:
    """Million multiply-accumulates for one face, in convolutions and dense layers.

    Batch normalisation is not counted: it is folded into the convolutions before it runs.
    """
    return sum(_macs(layer) for layer in model.layers) / 1e6


def parameters(model: keras.Model) -> int:
    """Parameters after batch normalisation is folded: kernels and biases.

    Folding gives a normalised convolution, which has no bias, one for each channel.
    """
    return sum(_parameters(layer) for layer in model.layers)


def _macs(layer: keras.Layer) -> int:
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        positions: int = math.prod(layer.output.shape[1:3])
        return positions * _weights(layer)
    if isinstance(layer, layers.Dense):
        return _weights(layer)
    return 0


def _parameters(layer: keras.Layer) -> int:
    if isinstance(layer, layers.Conv2D | layers.Dense):
        return _weights(layer) + int(layer.kernel.shape[-1])
    if isinstance(layer, layers.DepthwiseConv2D):
        return _weights(layer) + int(layer.output.shape[-1])
    return 0


def _weights(layer: keras.Layer) -> int:
    return math.prod(map(int, layer.kernel.shape))
