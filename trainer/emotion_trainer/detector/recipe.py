"""A detector's recipe: all settings of its training, in one TOML file."""

from typing import Annotated, Literal

from pydantic import Field

from edge_daemon.detection.bundled import MAX_EVIDENCE
from emotion_trainer.recipe import AnyRecipe, Schedule, Section

Stage = tuple[int, int]
Score = Annotated[float, Field(gt=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class NetworkSettings(Section):
    """Size of the network; each stage halves the resolution, the last three have maps."""

    stem: int = Field(default=16, gt=0, description="Channels of the stem.")
    stages: tuple[Stage, Stage, Stage, Stage] = Field(
        description="Width in channels, and blocks, of each stage."
    )
    kernels: tuple[int, int, int, int] = Field(
        default=(3, 5, 5, 5), description="Sides of the depthwise kernels, for each stage."
    )
    pyramid: int = Field(default=64, gt=0, description="Channels of the feature pyramid.")


class SceneSettings(Section):
    """Content of the training scenes."""

    side: int = Field(
        default=224, ge=64, multiple_of=32, description="Side of a square scene, in pixels."
    )
    min_face: float = Field(
        default=8.0, gt=0.0, description="Minimum root of a face's area, in pixels."
    )
    max_face: float = Field(
        default=110.0, gt=0.0, description="Maximum root of a face's area in photos, in pixels."
    )
    empty: Share = Field(default=0.08, description="Share of scenes without a face.")
    composed: Share = Field(default=0.12, description="Share of scenes composed of single faces.")
    mosaic: Share = Field(default=0.4, description="Share of mosaics among the scenes of photos.")
    wide: Share = Field(
        default=0.8, description="Share of photos that show more than single faces."
    )
    crops: Share = Field(default=0.7, description="Share of tight crops among composed faces.")
    tilt: float = Field(
        default=30.0, ge=0.0, le=90.0, description="Maximum rotation, degrees either way."
    )
    hidden: Share = Field(default=0.08, description="Share of faces that are partly covered.")
    mined: Share = Field(default=0.5, description="Share of mined false positives in empty scenes.")
    epoch: int = Field(default=9600, gt=0, description="Scenes in an epoch.")


class DetectorOptimisation(Schedule):
    """Optimisation of a detector: to the last epoch, with gradients clipped to a constant norm."""

    method: Literal["adamw"] = Field(default="adamw", description="The only one supported.")


class VerifierSettings(Section):
    """The verifier, a second network that sees each doubtful face alone, and its training."""

    stem: int = Field(default=16, gt=0, description="Channels of the stem.")
    stages: tuple[Stage, Stage, Stage] = Field(
        default=((32, 2), (64, 3), (96, 3)),
        description="Width in channels, and blocks, of each stage.",
    )
    geometry: int = Field(default=12, gt=0, description="Channels that box and landmarks use.")
    weight: float = Field(
        default=0.3, gt=0.0, le=1.0, description="Factor on its log-odds in a face's score."
    )
    offset: float = Field(
        default=-0.25,
        ge=-MAX_EVIDENCE,
        le=MAX_EVIDENCE,
        description="Added to the product: below 0, fewer false positives and faces.",
    )
    epoch: int = Field(default=38_400, gt=0, description="Patches in an epoch.")
    optimisation: DetectorOptimisation = DetectorOptimisation(
        epochs=20, batch=128, learning_rate=8e-3, warmup_epochs=0.5, weight_decay=1e-2
    )


class DetectorRecipe(AnyRecipe):
    """The recipe of a detector."""

    optimisation: DetectorOptimisation
    network: NetworkSettings
    scenes: SceneSettings = SceneSettings()
    verifier: VerifierSettings = VerifierSettings()
    start_scores: tuple[Score, Score, Score] | None = Field(
        default=None,
        description="Score of each map that becomes the daemon's default minimum; unset: export "
        "chooses them by the false positives in calibration photos.",
    )
