"""Seq-1: a plain sequence of convolutions in the manner of the first deep networks for FER2013.

Blocks of convolution, batch normalisation (Ioffe & Szegedy 2015) and ReLU, 2x2 max pooling
after each but the last, and global average pooling (Lin et al. 2014) instead of large dense layers.
"""

from typing import Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.layers import classify, convolve, grey_input, normalise
from emotion_trainer.models.families.scaling import ScalableSettings

Block = tuple[int, int]


class Settings(ScalableSettings):
    """Size of the network."""

    family: Literal["seq1"]
    blocks: tuple[Block, ...] = Field(
        default=((16, 1), (32, 2), (64, 2), (128, 2)),
        min_length=1,
        max_length=5,
        description="Width in channels, and convolutions, of each block.",
    )


def build(settings: Settings) -> keras.Model:
    """Build the untrained network; the first block is at the full 48x48 pixels."""
    faces = grey_input()
    x = normalise(faces)
    for index, (width, convolutions) in enumerate(settings.blocks):
        if index > 0:
            x = layers.MaxPooling2D(2)(x)
        for _ in range(settings.repeats(convolutions)):
            x = layers.ReLU()(convolve(x, settings.channels(width)))
    return keras.Model(faces, classify(x, settings.dropout), name="seq1")
