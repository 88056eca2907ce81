"""ResNet (He et al. 2016), its stem and stages scaled to 48x48 faces.

The original's stem, a 7x7 convolution of stride 2, would lose half of the detail of a
48x48 image; here it is a 3x3 convolution at full resolution, then 2x2 max pooling.
"""

from typing import Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.layers import classify, convolve, grey_input, normalise
from emotion_trainer.models.families.scaling import ScalableSettings

Stage = tuple[int, int]


class Settings(ScalableSettings):
    """Size of the network."""

    family: Literal["resnet"]
    stem: int = Field(gt=0, description="Channels of the stem.")
    stages: tuple[Stage, ...] = Field(
        min_length=1,
        max_length=5,
        description="Width in channels, and residual blocks, of each stage.",
    )


def build(settings: Settings) -> keras.Model:
    """Build the untrained network; each stage after the first halves the resolution."""
    faces = grey_input()
    x = layers.ReLU()(convolve(normalise(faces), settings.channels(settings.stem)))
    x = layers.MaxPooling2D(2)(x)
    for index, (width, blocks) in enumerate(settings.stages):
        for block in range(settings.repeats(blocks)):
            halves = index > 0 and block == 0
            x = _residual(x, settings.channels(width), stride=2 if halves else 1)
    return keras.Model(faces, classify(x, settings.dropout), name="resnet")


def _residual(x: keras.KerasTensor, width: int, stride: int) -> keras.KerasTensor:
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = convolve(x, width, kernel=1, stride=stride)
    x = layers.ReLU()(convolve(x, width, stride=stride))
    x = layers.Add()([convolve(x, width), shortcut])
    return layers.ReLU()(x)
