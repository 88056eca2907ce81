"""Layers that the families share."""

from typing import Final

import keras
from keras import layers

from edge_daemon.records import CROP_SIDE, EMOTIONS

# Keras' own default, 0.99, lags behind the weights while the learning rate is high.
NORM_MOMENTUM: Final = 0.9


def grey_input() -> keras.KerasTensor:
    """The crop: grey, 0 to 255, unnormalised. Shape [N, 48, 48, 1]."""
    return keras.Input((CROP_SIDE, CROP_SIDE, 1), name="faces")


def resize(pixels: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """Resize the crop inside the graph, so that its input stays 48x48 pixels."""
    return layers.Resizing(side, side, interpolation="bilinear")(pixels)


def normalise(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """Map grey levels to -1..1 inside the graph, so that its inputs are unscaled pixels."""
    return layers.Rescaling(1.0 / 127.5, offset=-1.0)(pixels)


def batch_normalise(x: keras.KerasTensor) -> keras.KerasTensor:
    """Batch normalisation, which int8 export folds into the convolution before it."""
    return layers.BatchNormalization(momentum=NORM_MOMENTUM)(x)


def relu6(x: keras.KerasTensor) -> keras.KerasTensor:
    """ReLU of at most 6, which quantises well."""
    return layers.ReLU(6.0)(x)


def convolve(
    x: keras.KerasTensor, width: int, kernel: int = 3, stride: int = 1, name: str | None = None
) -> keras.KerasTensor:
    """Convolution and batch normalisation, which int8 export folds into one."""
    x = layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return batch_normalise(x)


def classify(features: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    """Global average pooling, dropout and the seven logits, which are float32 in any precision."""
    x = layers.GlobalAveragePooling2D()(features)
    x = layers.Dropout(dropout)(x)
    return layers.Dense(len(EMOTIONS), dtype="float32", name="logits")(x)
