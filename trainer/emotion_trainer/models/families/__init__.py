"""The families of networks; each file has the settings and the `build` function of one.

A new family is a new file, added to `ModelSettings` and to `BUILDERS`.
"""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Final

import keras
from pydantic import Field

from emotion_trainer.models.families import (
    backbone,
    cost,
    densenet,
    dlib_resnet,
    efficientnet,
    imagenet,
    mobilenet,
    resnet,
    seq1,
    seq2,
    vgg16,
)
from emotion_trainer.models.families.scaling import ScalableSettings, solve_width

ModelSettings = Annotated[
    backbone.Settings
    | densenet.Settings
    | dlib_resnet.Settings
    | efficientnet.Settings
    | imagenet.Settings
    | mobilenet.Settings
    | resnet.Settings
    | seq1.Settings
    | seq2.Settings
    | vgg16.Settings,
    Field(discriminator="family"),
]
BUILDERS: Final[dict[str, Callable[[Any], keras.Model]]] = {
    "backbone": backbone.build,
    "densenet": densenet.build,
    "dlib_resnet": dlib_resnet.build,
    "efficientnet_lite0": efficientnet.build,
    "imagenet": imagenet.build,
    "mobilenet": mobilenet.build,
    "resnet": resnet.build,
    "seq1": seq1.build,
    "seq2": seq2.build,
    "vgg16": vgg16.build,
}


def build(settings: ModelSettings) -> keras.Model:
    """Build the network to be trained: float32 [N, 48, 48, 1] grey, 0 to 255 -> logits [N, 7].

    Raises:
        RecipeError: the settings' budget cannot be met, or their weights cannot be loaded.
    """
    return _build(within_budget(settings))


@cache
def within_budget(settings: ModelSettings) -> ModelSettings:
    """The settings with the width that meets their budget, or unchanged without a budget.

    Raises:
        RecipeError: the budget cannot be met.
    """
    if not isinstance(settings, ScalableSettings) or settings.budget_mmac is None:
        return settings

    def widened(width: float) -> ModelSettings:
        return settings.model_copy(update={"width": width, "budget_mmac": None})

    return widened(
        solve_width(lambda width: cost.mmac(_build(widened(width))), settings.budget_mmac)
    )


def _build(settings: ModelSettings) -> keras.Model:
    return BUILDERS[settings.family](settings)
