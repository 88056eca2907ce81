"""MobileNet, version 2 (Sandler et al. 2018): inverted residuals with linear bottlenecks.

A depthwise convolution mixes within a channel and 1x1 convolutions across channels (Howard et
al. 2017). The original's stem halves the resolution at once; here it keeps the 48x48 pixels.
"""

from typing import Final, Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.layers import (
    batch_normalise,
    classify,
    convolve,
    grey_input,
    normalise,
    relu6,
)
from emotion_trainer.models.families.scaling import ScalableSettings

Stage = tuple[int, int]

# The first block starts at full resolution, where expansion is expensive.
FIRST_EXPANSION: Final = 1

DEPTHWISE_DEVIATION: Final = (2 / 9) ** 0.5
"""Standard deviation of the initial depthwise kernels (He et al. 2015), of nine weights each.

Keras' own `he_normal` counts the inputs of all channels, so its kernels are smaller. Their outputs
have less variance than batch normalisation's epsilon, and int8 loses these channels."""


class Settings(ScalableSettings):
    """Size of the network."""

    family: Literal["mobilenet"]
    stem: int = Field(default=16, gt=0, description="Channels of the stem.")
    stages: tuple[Stage, ...] = Field(
        default=((24, 2), (40, 3), (80, 3)),
        min_length=1,
        max_length=4,
        description="Width in channels, and residual blocks, of each stage.",
    )
    expansion: int = Field(default=4, gt=0, description="Of a block's inner over its outer width.")
    head: int = Field(default=256, gt=0, description="Channels that are pooled.")


def build(settings: Settings) -> keras.Model:
    """Build the untrained network: stem at 48x48; each stage halves the resolution."""
    faces = grey_input()
    x = relu6(convolve(normalise(faces), settings.channels(settings.stem)))
    expansion = FIRST_EXPANSION
    for width, blocks in settings.stages:
        for block in range(settings.repeats(blocks)):
            stride = 2 if block == 0 else 1
            x = _inverted_residual(x, settings.channels(width), expansion, stride)
            expansion = settings.expansion
    x = relu6(convolve(x, settings.channels(settings.head), kernel=1))
    return keras.Model(faces, classify(x, settings.dropout), name="mobilenet")


def _inverted_residual(
    x: keras.KerasTensor, width: int, expansion: int, stride: int
) -> keras.KerasTensor:
    inner = x
    if expansion > 1:
        inner = relu6(convolve(x, x.shape[-1] * expansion, kernel=1))
    inner = convolve(relu6(_convolve_depthwise(inner, stride)), width, kernel=1)
    if stride == 1 and x.shape[-1] == width:
        return layers.Add()([x, inner])
    return inner


def _convolve_depthwise(x: keras.KerasTensor, stride: int) -> keras.KerasTensor:
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.RandomNormal(stddev=DEPTHWISE_DEVIATION),
    )(x)
    return batch_normalise(x)
