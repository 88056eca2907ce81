"""DenseNet (Huang et al. 2017): the input of a layer is the outputs of all before it in its block.

Two changes adapt it to int8. Normalisation and activation follow a convolution, as in Pelee (Wang
et al. 2018), since batch normalisation is folded into the convolution before it. In the original
they precede it and would remain a layer of their own. And activations are ReLU6, so that all
concatenated channels share one range. The growth rate rises
from block to block, as in CondenseNet (Huang et al. 2018), where layers are cheaper.
"""

from typing import Final, Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.layers import (
    classify,
    convolve,
    grey_input,
    normalise,
    relu6,
)
from emotion_trainer.models.families.scaling import ScalableSettings

Block = tuple[int, int]

# Width of the 1x1 convolution before each 3x3 one, in growth rates.
BOTTLENECK: Final = 2


class Settings(ScalableSettings):
    """Size of the network."""

    family: Literal["densenet"]
    stem: int = Field(default=24, gt=0, description="Channels of the stem.")
    blocks: tuple[Block, ...] = Field(
        default=((16, 4), (24, 6), (32, 6)),
        min_length=1,
        max_length=4,
        description="Growth rate in channels, and layers, of each block.",
    )


def build(settings: Settings) -> keras.Model:
    """Build the untrained network: stem at 48x48, first block at 24x24; transitions halve."""
    faces = grey_input()
    x = relu6(convolve(normalise(faces), settings.channels(settings.stem)))
    x = layers.MaxPooling2D(2)(x)
    for index, (growth, count) in enumerate(settings.blocks):
        if index > 0:
            x = _transition(x)
        for _ in range(settings.repeats(count)):
            x = _grow(x, settings.channels(growth), settings.channels(BOTTLENECK * growth))
    x = relu6(convolve(x, x.shape[-1], kernel=1))
    return keras.Model(faces, classify(x, settings.dropout), name="densenet")


def _grow(x: keras.KerasTensor, growth: int, bottleneck: int) -> keras.KerasTensor:
    new = relu6(convolve(x, bottleneck, kernel=1))
    new = relu6(convolve(new, growth))
    return layers.Concatenate()([x, new])


def _transition(x: keras.KerasTensor) -> keras.KerasTensor:
    half = x.shape[-1] // 16 * 8
    return layers.AveragePooling2D(2)(relu6(convolve(x, half, kernel=1)))
