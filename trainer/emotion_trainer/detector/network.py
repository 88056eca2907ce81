"""The network: depthwise separable blocks down to three maps of faces.

It follows BlazeFace (Bazarevsky et al. 2019) and YuNet (Wu et al. 2023).
Nothing in it depends on the picture's size, and nothing resizes: the exported file takes
whatever size its input is set to. 5x5 depthwise kernels, which cost little beside the 1x1
convolutions, widen what a cell sees.
"""

from typing import Final

import keras
from keras import layers

from edge_daemon.detection.decoding import GEOMETRY, STRIDES
from emotion_trainer.detector.recipe import NetworkSettings
from emotion_trainer.families.layers import NORM_MOMENTUM, convolve, normalise

OUTPUTS: Final = 1 + GEOMETRY
"""Numbers a cell: the score's logit, then the geometry."""
FIRST_LOGIT: Final = -4.0
"""Nearly no cell has a face: from here the first steps are not lost on learning that."""


def build(
    settings: NetworkSettings, size: tuple[int | None, int | None] = (None, None)
) -> keras.Model:
    """The untrained network, from grey pixels [N, H, W, 1] to all cells' outputs [N, cells, 15].

    The cells of the finest map come first, row by row.
    """
    pixels = keras.Input((*size, 1), name="pictures")
    x = layers.ReLU()(convolve(normalise(pixels), settings.stem, stride=2))
    cells = []
    for number, (width, blocks) in enumerate(settings.stages):
        for block in range(blocks):
            x = _block(x, width, settings.kernel, stride=2 if block == 0 else 1)
        if number > 0:
            cells.append(_head(x, STRIDES[number - 1]))
    return keras.Model(pixels, layers.Concatenate(axis=1)(cells), name="detector")


def maps_of(model: keras.Model) -> keras.Model:
    """The same network, with the maps as its outputs: scores, then geometry, finest first."""
    names = [*(f"scores_{stride}" for stride in STRIDES), *(f"geometry_{s}" for s in STRIDES)]
    return keras.Model(model.inputs, [model.get_layer(name).output for name in names])


def _block(x: keras.KerasTensor, width: int, kernel: int, stride: int) -> keras.KerasTensor:
    y = layers.DepthwiseConv2D(
        kernel if stride == 1 else 3,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
    )(x)
    # Pixels that a residual adds to must stay linear; between the two kernels a norm is enough.
    y = layers.BatchNormalization(momentum=NORM_MOMENTUM)(y)
    y = convolve(y, width, kernel=1)
    if stride == 1 and x.shape[-1] == width:
        y = layers.Add()([x, y])
    return layers.ReLU()(y)


def _head(x: keras.KerasTensor, stride: int) -> keras.KerasTensor:
    # Two layers, as the exported file needs a scale of its own for either's range.
    scores = layers.Conv2D(
        1,
        1,
        bias_initializer=keras.initializers.Constant(FIRST_LOGIT),
        dtype="float32",
        name=f"scores_{stride}",
    )(x)
    geometry = layers.Conv2D(GEOMETRY, 1, dtype="float32", name=f"geometry_{stride}")(x)
    return layers.Reshape((-1, OUTPUTS))(layers.Concatenate()([scores, geometry]))
