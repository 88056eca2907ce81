"""Seq-2: a lean sequence of single convolutions with a dense head, in the manner of LeNet-5.

LeCun et al. 1998, with ReLU, max pooling, batch normalisation (Ioffe & Szegedy 2015) and dropout
(Srivastava et al. 2014). The dense layer keeps the position of a feature in the face, which global
pooling loses. It is a convolution over the whole last map (Long et al. 2015): equivalent, without a
reshape that would fix the batch size in TFLite.
"""

from typing import Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.layers import classify, convolve, grey_input, normalise
from emotion_trainer.models.families.scaling import ScalableSettings


class Settings(ScalableSettings):
    """Size of the network."""

    family: Literal["seq2"]
    widths: tuple[int, ...] = Field(
        default=(24, 48, 96, 192), min_length=1, max_length=5, description="Of the convolutions."
    )
    hidden: int = Field(default=128, gt=0, description="Width of the dense layer.")


def build(settings: Settings) -> keras.Model:
    """Build the untrained network; each convolution is followed by 2x2 max pooling."""
    faces = grey_input()
    x = normalise(faces)
    for width in settings.widths:
        for _ in range(settings.repeats(1)):
            x = layers.ReLU()(convolve(x, settings.channels(width)))
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(settings.dropout)(x)
    x = layers.Conv2D(
        settings.channels(settings.hidden),
        x.shape[1:3],
        activation="relu",
        kernel_initializer="he_normal",
    )(x)
    return keras.Model(faces, classify(x, settings.dropout), name="seq2")
