"""Equal ranges of channels before int8 conversion (cross-layer equalisation, Nagel et al. 2019).

In int8 an activation has one scale for all of its channels. Where a depthwise convolution leaves
channels a hundred times smaller than others, such as after weight decay, few of the 256 levels
remain for them, and the convolution after it, whose kernels make up for their size, amplifies the
rounding errors. So such a channel is enlarged, and the kernels that read it are reduced by the same
factor. The function of the network stays the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

Array = NDArray[np.float32]

BATCH: Final = 50
MARGIN: Final = 1.25
"""Of a channel's largest activation: other faces may exceed it, and a limit of the ReLU clips."""


@dataclass(frozen=True)
class _Link:
    """The normalised output of a convolution, which exactly one other convolution reads."""

    norm: layers.BatchNormalization
    activation: layers.ReLU | None
    """None: the other convolution reads the normalisation itself."""
    reader: layers.Conv2D | layers.DepthwiseConv2D

    @property
    def output(self) -> keras.KerasTensor:
        return (self.activation or self.norm).output

    @property
    def limit(self) -> float | None:
        """Where the activation clips."""
        return None if self.activation is None else self.activation.max_value


def equalised(model: keras.Model, faces: NDArray[np.uint8]) -> keras.Model:
    """A copy of the model with the same function, whose channels have similar ranges.

    Args:
        model: takes float32 [N, 48, 48, 1] pixels; it is left as it is.
        faces: uint8 [N, 48, 48], on which the ranges are measured.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    links = list(_links(copy))
    if links:
        for link, maxima in zip(links, _maxima(copy, links, faces), strict=True):
            _rescale(link, _factors(link, maxima))
    return copy


def _links(model: keras.Model) -> Iterator[_Link]:
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            norm = _only_reader(layer)
            activation = reader = _only_reader(norm)
            if isinstance(activation, layers.ReLU):
                reader = _only_reader(activation)
            else:
                activation = None
            if isinstance(norm, layers.BatchNormalization) and isinstance(
                reader, layers.Conv2D | layers.DepthwiseConv2D
            ):
                yield _Link(norm, activation, reader)


def _only_reader(layer: keras.Layer | None) -> keras.Layer | None:
    """The layer that reads another's output, if it is the only one."""
    nodes = layer._outbound_nodes if layer is not None else []
    return nodes[0].operation if len(nodes) == 1 else None


def _maxima(
    model: keras.Model, links: list[_Link], faces: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """The largest magnitude of each channel of each link's output, float32 [C]."""
    probe = keras.Model(model.input, [link.output for link in links])
    largest: list[Array] = []
    for start in range(0, len(faces), BATCH):
        pixels = faces[start : start + BATCH, ..., np.newaxis].astype(np.float32)
        outputs = keras.tree.flatten(probe.predict_on_batch(pixels))
        batch = [np.abs(np.asarray(x, np.float32)).max(axis=(0, 1, 2)) for x in outputs]
        pairs = zip(largest or batch, batch, strict=True)
        largest = [np.maximum(a, b) for a, b in pairs]
    return largest


def _factors(link: _Link, maxima: Array) -> Array:
    """The factor by which each channel is enlarged, float32 [C], at least 1.

    A depthwise convolution has a scale for the kernel of each channel, so the channel may fill the
    range. Other convolutions share a scale among the kernels of all channels: there the relative
    ranges of channel and kernels become equal.
    """
    limit = link.limit or float(maxima.max())
    largest = np.where(maxima > 0, maxima, limit)
    room = limit / (MARGIN * largest)
    if isinstance(link.reader, layers.DepthwiseConv2D):
        return np.maximum(room, 1.0)
    kernels = np.abs(np.asarray(link.reader.kernel)).max(axis=(0, 1, 3))
    balanced: Array = np.sqrt(kernels / kernels.max() * limit / largest)
    return np.maximum(np.minimum(balanced, room), 1.0)


def _rescale(link: _Link, factors: Array) -> None:
    gamma, beta, *statistics = link.norm.get_weights()
    link.norm.set_weights([gamma * factors, beta * factors, *statistics])
    kernel, *bias = link.reader.get_weights()
    link.reader.set_weights([kernel / factors[:, np.newaxis], *bias])
