"""dlib's face recognition network, pretrained on millions of faces.

Its plain 3x3 convolutions quantise well and are fast on processors, and its author released it into
the public domain, so a fine-tuned model can be bundled. The graph resizes the face to the side that
the recipe sets. The last blocks, which have three quarters of the parameters, separate persons
rather than expressions and can be left out.

Source: King, "High quality face recognition with deep metric learning", dlib's blog, 2017; the
shape is He et al. 2016 with 29 convolutions. Convolutions of stride 2 are padded here so that a
block's two paths have the same size; in dlib, zeros fill the difference.
"""

from typing import Final, Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.backbone import PretrainedSettings
from emotion_trainer.models.families.layers import classify, convolve, grey_input, resize

STEM: Final = "conv32_down"
STEM_CHANNELS: Final = 32
BLOCKS: Final = (
    *(("conv32_1", 32, 1), ("conv32_2", 32, 1), ("conv32_3", 32, 1)),
    *(("conv64_down", 64, 2), ("conv64_1", 64, 1), ("conv64_2", 64, 1), ("conv64_3", 64, 1)),
    *(("conv128_down", 128, 2), ("conv128_1", 128, 1), ("conv128_2", 128, 1)),
    *(("conv256_down", 256, 2), ("conv256_1", 256, 1), ("conv256_2", 256, 1)),
    ("conv256_down_out", 256, 2),
)
"""Name, channels and stride of each residual block."""

CHANNEL_MEANS: Final = (122.782, 117.001, 104.298)
"""Means of the three channels in dlib's training, which are subtracted."""
MEAN: Final = sum(CHANNEL_MEANS) / len(CHANNEL_MEANS)
SCALE: Final = 256.0


class Settings(PretrainedSettings):
    """Input side, number of blocks and weights."""

    family: Literal["dlib_resnet"]
    blocks: int = Field(
        default=len(BLOCKS),
        ge=7,
        le=len(BLOCKS),
        description="Number of blocks, the first ones; 14 are all.",
    )

    def __str__(self) -> str:
        return self.describe(f"dlib_resnet, {self.blocks} blocks")


def build(settings: Settings) -> keras.Model:
    """Build the network with random weights; each convolution has its weights' name."""
    faces = grey_input()
    x = resize(faces, settings.side)
    x = layers.Rescaling(1.0 / SCALE, offset=-MEAN / SCALE)(x)
    x = layers.ReLU()(convolve(x, STEM_CHANNELS, kernel=7, stride=2, name=STEM))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for name, channels, stride in BLOCKS[: settings.blocks]:
        x = _residual(x, name, channels, stride)
    return keras.Model(faces, classify(x, settings.dropout), name="dlib_resnet")


def _residual(x: keras.KerasTensor, name: str, channels: int, stride: int) -> keras.KerasTensor:
    """Two convolutions and a shortcut, which averages 2x2 pixels where they halve the size."""
    shortcut = x
    if stride != 1:
        shortcut = layers.AveragePooling2D(2, padding="same")(x)
        if x.shape[-1] != channels:
            # In dlib, the missing channels are zeros, which the converted kernel gives.
            shortcut = layers.Conv2D(channels, 1, name=f"{name}_shortcut")(shortcut)
    x = layers.ReLU()(convolve(x, channels, stride=stride, name=f"{name}_conv1"))
    x = layers.Add()([convolve(x, channels, name=f"{name}_conv2"), shortcut])
    return layers.ReLU()(x)
