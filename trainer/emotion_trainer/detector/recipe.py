"""A detector's recipe: all that its training is made of, in one TOML file."""

from typing import Annotated

from pydantic import Field

from emotion_trainer.recipe import AnyRecipe, Section

Stage = Annotated[tuple[int, int], Field(description="Width in channels, and blocks.")]
Chance = Annotated[float, Field(ge=0.0, le=1.0)]


class NetworkSettings(Section):
    """Size of the network; each stage halves the resolution, the last three find faces."""

    stem: int = Field(default=16, gt=0, description="Channels of the stem.")
    stages: tuple[Stage, Stage, Stage, Stage]
    kernel: int = Field(default=5, ge=3, description="Side of the depthwise kernels.")


class SceneSettings(Section):
    """What the composed scenes are like."""

    side: int = Field(default=160, ge=64, multiple_of=32, description="Pixels.")
    smallest: float = Field(default=9.0, gt=0.0, description="Root of a face's area, in pixels.")
    photos: Chance = Field(default=0.4, description="Of scenes that are a photo, moved and turned.")
    empty: Chance = Field(default=0.15, description="Of scenes without a face.")
    crops: Chance = Field(default=0.6, description="Of pasted faces that are tight crops.")
    tilt: float = Field(default=35.0, ge=0.0, le=90.0, description="Most degrees either way.")
    hidden: Chance = Field(default=0.25, description="Of faces that something partly hides.")
    mined: Chance = Field(default=0.5, description="Of empty scenes, those taken for faces.")
    epoch: int = Field(default=9600, gt=0, description="Scenes in an epoch.")
    validation: int = Field(default=400, gt=0, description="Scenes to validate on.")


class DetectorRecipe(AnyRecipe):
    """A whole recipe."""

    network: NetworkSettings
    scenes: SceneSettings = SceneSettings()
