"""VGG16 (Simonyan & Zisserman 2015): thirteen 3x3 convolutions in five blocks.

Batch normalisation (Ioffe & Szegedy 2015) makes it trainable from scratch, and global average
pooling (Lin et al. 2014) stands for the two dense layers that hold most of the original's
weights. Its first block keeps the full 48x48 pixels, as the original keeps its 224x224.
"""

from typing import Final, Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.layers import classify, convolve, grey_input, normalise
from emotion_trainer.models.families.scaling import ScalableSettings

CONVOLUTIONS: Final = (2, 2, 3, 3, 3)


class Settings(ScalableSettings):
    """Size of the network. The original's widths are four times the default."""

    family: Literal["vgg16"]
    widths: tuple[int, int, int, int, int] = Field(
        default=(16, 32, 64, 128, 128), description="Channels of the five blocks."
    )


def build(settings: Settings) -> keras.Model:
    """Build the untrained network; each block after the first halves the resolution."""
    faces = grey_input()
    x = normalise(faces)
    for index, (width, convolutions) in enumerate(zip(settings.widths, CONVOLUTIONS, strict=True)):
        if index > 0:
            x = layers.MaxPooling2D(2)(x)
        for _ in range(settings.repeats(convolutions)):
            x = layers.ReLU()(convolve(x, settings.channels(width)))
    return keras.Model(faces, classify(x, settings.dropout), name="vgg16")
