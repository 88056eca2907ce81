"""A backbone pretrained on faces, as a teacher of the small networks.

The graph resizes the face to the side that the recipe sets. The network is large, and VGGFace2, on
which it was trained, is for research, so it is never bundled.
"""

from typing import Final, Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.initial_weights import InitialWeights
from emotion_trainer.models.families.layers import (
    batch_normalise,
    classify,
    grey_input,
    relu6,
    resize,
)

CHANNEL_MEANS: Final = (103.939, 116.779, 123.68)
"""Means of the three channels in MobileNetV1's training, which are subtracted."""

MOBILENET_V1: Final = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Channels and stride of each separable convolution (Howard et al. 2017)."""


class PretrainedSettings(InitialWeights):
    """Input side and weights of a pretrained network.

    `models.pretrained` loads the weights: an `.npz` file by `emotion-trainer convert`.
    """

    side: int = Field(default=96, ge=48, le=224, description="Pixels a side, resized in the graph.")
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of the pooled features set to 0."
    )

    def describe(self, network: str) -> str:
        """A line about the network, its input and the weights that it starts from."""
        weights = "" if self.weights is None else f", {self.weights} ({self.licence})"
        return f"{network} at {self.side} px{weights}"


class Settings(PretrainedSettings):
    """Network, input side and weights."""

    family: Literal["backbone"]
    network: Literal["mobilenet_v1"] = Field(
        default="mobilenet_v1", description="Architecture of the weights."
    )

    def __str__(self) -> str:
        return self.describe(self.network)


def build(settings: Settings) -> keras.Model:
    """Build the network with random weights; each convolution has its weights' name."""
    faces = grey_input()
    x = resize(faces, settings.side)
    x = layers.Concatenate()([x] * len(CHANNEL_MEANS))
    x = layers.Rescaling(1.0, offset=[-mean for mean in CHANNEL_MEANS])(x)
    x = _normalised(
        layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="conv1")(x)
    )
    for number, (channels, stride) in enumerate(MOBILENET_V1, start=1):
        depthwise = layers.DepthwiseConv2D(
            3, strides=stride, padding="same", use_bias=False, name=f"conv_dw_{number}"
        )
        pointwise = layers.Conv2D(channels, 1, use_bias=False, name=f"conv_pw_{number}")
        x = _normalised(pointwise(_normalised(depthwise(x))))
    return keras.Model(faces, classify(x, settings.dropout), name="backbone")


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
    return relu6(batch_normalise(x))
