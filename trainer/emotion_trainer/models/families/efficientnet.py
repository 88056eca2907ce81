"""EfficientNet-lite0, pretrained on ImageNet.

Its weights are Apache-2.0, so a fine-tuned model can be bundled. It has no squeeze-and-excitation
and uses ReLU6, so it quantises well. The graph resizes the face to the side that the recipe sets.
The last blocks, which have half of the parameters and maps of 3x3, can be left out.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
2019; Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow Blog, 2020.
"""

from dataclasses import dataclass
from typing import Final, Literal

import keras
from keras import layers
from pydantic import Field

from emotion_trainer.models.families.backbone import PretrainedSettings
from emotion_trainer.models.families.layers import (
    batch_normalise,
    classify,
    grey_input,
    relu6,
    resize,
)

STEM_CHANNELS: Final = 32


@dataclass(frozen=True)
class Stage:
    """A stage of equal blocks, the first of which has the stride."""

    blocks: int
    channels: int
    kernel: int
    stride: int
    expansion: int


STAGES: Final = (
    Stage(1, 16, 3, 1, 1),
    Stage(2, 24, 3, 2, 6),
    Stage(2, 40, 5, 2, 6),
    Stage(3, 80, 3, 2, 6),
    Stage(3, 112, 5, 1, 6),
    Stage(4, 192, 5, 2, 6),
    Stage(1, 320, 3, 1, 6),
)
MAX_BLOCKS: Final = sum(stage.blocks for stage in STAGES)


class Settings(PretrainedSettings):
    """Input side, number of blocks and weights."""

    family: Literal["efficientnet_lite0"]
    blocks: int = Field(
        default=MAX_BLOCKS,
        ge=6,
        le=MAX_BLOCKS,
        description="Number of blocks, the first ones; 16 are all.",
    )

    def __str__(self) -> str:
        return self.describe(f"efficientnet_lite0, {self.blocks} blocks")


def build(settings: Settings) -> keras.Model:
    """Build the network with random weights; each convolution has its weights' name."""
    faces = grey_input()
    x = resize(faces, settings.side)
    x = layers.Rescaling(1.0 / 128.0, offset=-127.0 / 128.0)(x)
    stem = layers.Conv2D(STEM_CHANNELS, 3, strides=2, padding="same", use_bias=False, name="stem")
    x = relu6(batch_normalise(stem(x)))
    stages = (stage for stage in STAGES for _ in range(stage.blocks))
    previous = None
    for number, stage in zip(range(settings.blocks), stages, strict=False):
        stride = 1 if stage is previous else stage.stride
        x = _block(x, f"block_{number}", stage, stride)
        previous = stage
    return keras.Model(faces, classify(x, settings.dropout), name="efficientnet_lite0")


def _block(x: keras.KerasTensor, name: str, stage: Stage, stride: int) -> keras.KerasTensor:
    """An inverted residual block, with a shortcut where the shape stays."""
    y, channels = x, int(x.shape[-1])
    if stage.expansion != 1:
        expand = layers.Conv2D(channels * stage.expansion, 1, use_bias=False, name=f"{name}_expand")
        y = relu6(batch_normalise(expand(y)))
    depthwise = layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )
    y = relu6(batch_normalise(depthwise(y)))
    project = layers.Conv2D(stage.channels, 1, use_bias=False, name=f"{name}_project")
    y = batch_normalise(project(y))
    return layers.Add()([x, y]) if stride == 1 and channels == stage.channels else y
