"""The families of networks, one a file: its settings, and the function that builds it.

A new family is a new file, a part of `ModelSettings`, and a line in `_build`.
"""

from functools import cache
from typing import Annotated

import keras
from pydantic import Field

from emotion_trainer.families import cost, densenet, mobilenet, resnet, seq1, seq2, vgg16
from emotion_trainer.families.scaling import solve_width

ModelSettings = Annotated[
    densenet.Settings
    | mobilenet.Settings
    | resnet.Settings
    | seq1.Settings
    | seq2.Settings
    | vgg16.Settings,
    Field(discriminator="family"),
]


def build(settings: ModelSettings) -> keras.Model:
    """Build the untrained network: float32 [N, 48, 48, 1] grey, 0 to 255 -> logits [N, 7].

    Raises:
        RecipeError: the settings' budget cannot be met.
    """
    return _build(within_budget(settings))


@cache
def within_budget(settings: ModelSettings) -> ModelSettings:
    """The settings with the width that meets their budget; as they are if they have none.

    Raises:
        RecipeError: the budget cannot be met.
    """
    budget = settings.budget_mmac
    if budget is None:
        return settings

    def widened(width: float) -> ModelSettings:
        return settings.model_copy(update={"width": width, "budget_mmac": None})

    return widened(solve_width(lambda width: cost.mmac(_build(widened(width))), budget))


def _build(settings: ModelSettings) -> keras.Model:
    match settings:
        case densenet.Settings():
            return densenet.build(settings)
        case mobilenet.Settings():
            return mobilenet.build(settings)
        case resnet.Settings():
            return resnet.build(settings)
        case seq1.Settings():
            return seq1.build(settings)
        case seq2.Settings():
            return seq2.build(settings)
        case vgg16.Settings():
            return vgg16.build(settings)
