"""Networks of `keras.applications`, to continue from weights trained on ImageNet.

The weights are for colour images of 224 pixels a side, not for grey ones of 48. So the grey channel
is repeated three times, in the value range of the application. Where the stem halves the
resolution, the image is enlarged twofold before it: the maps stay as large as without the stride,
and edges have the size that the kernels were trained on. Such networks are large, so they serve as
teachers. The user provides the file of weights; nothing is downloaded.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import keras
import numpy as np
from keras import applications, layers
from pydantic import Field, model_validator

from emotion_trainer.errors import RecipeError
from emotion_trainer.models.families.initial_weights import InitialWeights
from emotion_trainer.models.families.layers import NORM_MOMENTUM, classify, grey_input, normalise

BLACK: Final = np.zeros((1, 1, 1, 3), np.float32)
WHITE: Final = np.full((1, 1, 1, 3), 255.0, np.float32)


@dataclass(frozen=True)
class Application:
    """A network of Keras, its preprocessing, and the stride of its stem."""

    make: Callable[..., keras.Model]
    preprocess: Callable[..., Any]
    stem_stride: int


APPLICATIONS: Final = {
    "VGG16": Application(applications.VGG16, applications.vgg16.preprocess_input, 1),
    "ResNet50V2": Application(applications.ResNet50V2, applications.resnet_v2.preprocess_input, 2),
    "DenseNet121": Application(applications.DenseNet121, applications.densenet.preprocess_input, 2),
    "MobileNetV2": Application(
        applications.MobileNetV2, applications.mobilenet_v2.preprocess_input, 2
    ),
}


class Settings(InitialWeights):
    """Network and weights."""

    family: Literal["imagenet"]
    application: Literal["VGG16", "ResNet50V2", "DenseNet121", "MobileNetV2"] = Field(
        description="Network of `keras.applications`."
    )
    alpha: float = Field(default=1.0, gt=0.0, description="Factor on MobileNetV2's channels.")
    weights: Path | None = Field(
        default=None,
        description="A .h5 or .weights.h5 file without the top; random weights if absent.",
    )
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of the pooled features set to 0."
    )

    @model_validator(mode="after")
    def _alpha_is_of_mobilenet(self) -> "Settings":
        if self.alpha != 1.0 and self.application != "MobileNetV2":
            raise ValueError("alpha is a setting of MobileNetV2 alone")
        return self

    def __str__(self) -> str:
        weights = "random" if self.weights is None else f"{self.weights} ({self.licence})"
        return f"{self.application}, {weights}"


def build(settings: Settings) -> keras.Model:
    """Build the network, its weights loaded if the settings name any.

    Raises:
        RecipeError: the weights are missing, damaged, or not of this application.
    """
    application = APPLICATIONS[settings.application]
    faces = grey_input()
    options = {"alpha": settings.alpha} if settings.application == "MobileNetV2" else {}
    trunk = application.make(
        include_top=False, weights=None, input_tensor=_adapt(faces, application), **options
    )
    if settings.weights is not None:
        _load(trunk, settings.weights, settings.application)
    for layer in trunk.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = NORM_MOMENTUM
    return keras.Model(faces, classify(trunk.output, settings.dropout), name="imagenet")


def _adapt(faces: keras.KerasTensor, application: Application) -> keras.KerasTensor:
    """Convert grey levels to the three channels and the size that the application takes.

    The application's own function preprocesses colours. It is linear in each channel, so its values
    for black and white determine it.
    """
    black, white = (np.ravel(application.preprocess(grey.copy())) for grey in (BLACK, WHITE))
    middle, half = (white + black) / 2, (white - black) / 2
    # Normalised first, as in all families: int8 export requires unscaled pixels as input.
    x = layers.Concatenate()([normalise(faces)] * 3)
    x = layers.Rescaling(half.tolist(), offset=middle.tolist())(x)
    return layers.UpSampling2D(application.stem_stride, interpolation="bilinear")(x)


def _load(trunk: keras.Model, path: Path, application: str) -> None:
    if not path.is_file():
        raise RecipeError(f"model.weights: {path}: no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # the error repeats each of them
            trunk.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise RecipeError(
            f"model.weights: {path}: not weights of {application} without its top: {reason}"
        ) from error
