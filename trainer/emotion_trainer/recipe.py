"""A recipe: all settings of a training, in one TOML file."""

import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from edge_daemon._lib.validation import reason
from edge_daemon.records import CROP_SIDE
from emotion_trainer.errors import RecipeError, did_you_mean
from emotion_trainer.models.families import ModelSettings, backbone


class Section(BaseModel):
    """A section of a recipe; unknown settings and infinite numbers are refused.

    A run's record is JSON, which has no infinite numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Targets(Section):
    """Targets of the training."""

    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of a target spread evenly over all labels."
    )
    votes_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Share of the FER+ votes in a target."
    )
    class_weighting: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Exponent on a label's inverse frequency: at 1 all labels count alike.",
    )


class Distillation(Section):
    """Teachers: models that were trained before, or files with their predictions.

    Paths are relative to the folder in which the command runs.
    """

    teachers: tuple[Path, ...] = Field(default=(), description="Folders of runs or of bundles.")
    soft_labels: tuple[Path, ...] = Field(
        default=(), description="Files by `emotion-trainer teach`; each counts as one teacher."
    )
    share: float = Field(
        default=0.5, gt=0.0, le=1.0, description="Weight of the teachers in a target."
    )
    temperature: float = Field(
        default=1.0, gt=0.0, description="Divides their log-probabilities; softer above 1."
    )

    @model_validator(mode="after")
    def _has_a_teacher(self) -> "Distillation":
        if not self.teachers and not self.soft_labels:
            raise ValueError("no teacher; set teachers or soft_labels")
        return self


class Augmentation(Section):
    """Bounds of the random changes to a training face."""

    rotation: float = Field(
        default=0.0, ge=0.0, le=180.0, description="Maximum, in degrees, in both directions."
    )
    shift: float = Field(
        default=0.0, ge=0.0, le=0.5, description="Maximum, in parts of the side, in all directions."
    )
    zoom: float = Field(
        default=1.0, ge=1.0, le=2.0, description="Maximum factor, enlarged or reduced."
    )
    stretch: float = Field(
        default=1.0, ge=1.0, le=2.0, description="Maximum factor on the width alone."
    )
    contrast: float = Field(default=1.0, ge=1.0, description="Maximum factor, raised or lowered.")
    brightness: float = Field(
        default=0.0, ge=0.0, le=255.0, description="Maximum change, in grey levels."
    )
    downscale_probability: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Of a face scaled down and up again."
    )
    min_downscaled_side: int = Field(
        default=CROP_SIDE, ge=8, le=CROP_SIDE, description="Side of the smaller face, in pixels."
    )
    erasing_probability: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Of a rectangle filled with one grey level."
    )
    max_erased_area: float = Field(
        default=0.2, gt=0.0, le=0.5, description="Of that rectangle, as a share of the face."
    )
    mixup: float = Field(
        default=0.0, ge=0.0, description="Alpha of the beta distribution of mixup; 0: no mixup."
    )

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> "Augmentation":
        if bool(self.downscale_probability) != (self.min_downscaled_side < CROP_SIDE):
            raise ValueError(
                "set downscale_probability above 0 and min_downscaled_side below "
                f"{CROP_SIDE}, or neither"
            )
        # The record of a run holds all defaults, so only another value can be refused.
        default = Augmentation.model_fields["max_erased_area"].default
        if self.max_erased_area != default and not self.erasing_probability:
            raise ValueError("max_erased_area requires erasing_probability above 0")
        return self


class Schedule(Section):
    """Optimisation of any network: linear warm-up, then cosine decay of the learning rate."""

    epochs: int = Field(gt=0, description="Passes over the training faces or scenes.")
    batch: int = Field(gt=0, description="Faces or scenes in a step.")
    learning_rate: float = Field(gt=0.0, description="At the end of the warm-up: its maximum.")
    warmup_epochs: float = Field(
        default=0.0, ge=0.0, description="Epochs in which the learning rate rises from 0."
    )
    weight_decay: float = Field(
        default=0.0, ge=0.0, description="Decoupled: each step reduces kernels by this x the rate."
    )
    ema_momentum: float = Field(
        default=0.999, ge=0.0, lt=1.0, description="Of the moving average of the weights, per step."
    )

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be below epochs (got {self.warmup_epochs:g} of {self.epochs})"
            )
        return self


class Optimisation(Schedule):
    """Optimisation of an emotion model."""

    method: Literal["sgd", "adamw"] = Field(
        default="sgd", description="SGD with Nesterov momentum, or AdamW."
    )
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0, description="Of SGD, per step.")
    head_rate: float = Field(
        default=1.0, gt=0.0, description="Factor on the learning rate of the last layer."
    )
    max_norm: float = Field(
        default=0.0, ge=0.0, description="To which a step's gradient is clipped; 0: no clipping."
    )
    patience: int = Field(
        default=0, ge=0, description="Epochs without a better accuracy that end training; 0: off."
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        default="auto", description="Number format of training; auto: the device's fastest."
    )

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> "Optimisation":
        if self.head_rate != 1.0 and self.method != "adamw":
            raise ValueError("head_rate requires method adamw")
        # The record of a run holds all defaults, so only another value can be refused.
        if self.momentum != Optimisation.model_fields["momentum"].default and self.method != "sgd":
            raise ValueError("momentum requires method sgd")
        return self


class AnyRecipe(Section):
    """Settings that the recipes of all kinds of networks share."""

    name: str = Field(description="The file's name without `.toml`.")
    seed: int = Field(
        ge=0, lt=2**32, description="Of all random numbers: weights, order, augmentation."
    )
    optimisation: Schedule

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str) -> str:
        """A run's folder and files have this name."""
        if not name or "/" in name or name.startswith("."):
            raise ValueError("must be the name of a file, without '/' and a leading '.'")
        return name


class Recipe(AnyRecipe):
    """The recipe of an emotion model."""

    optimisation: Optimisation
    bundled: bool = Field(
        default=True,
        description="False: only a teacher, neither exported by ladder nor bundled.",
    )
    start: Path | None = Field(
        default=None,
        description="An int8 .tflite or a .keras file of the same network to continue from.",
    )
    model: ModelSettings
    targets: Targets = Targets()
    distillation: Distillation | None = None
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _a_backbone_is_not_bundled(self) -> "Recipe":
        if self.bundled and isinstance(self.model, backbone.Settings):
            raise ValueError("a backbone is a teacher and never bundled; set bundled = false")
        return self

    @property
    def teachers(self) -> tuple[Path, ...]:
        """Folders of the teachers, if any."""
        return self.distillation.teachers if self.distillation else ()

    @property
    def sources(self) -> tuple[Path, ...]:
        """Models that it learns or continues from; a ladder may not have trained them yet."""
        return (*self.teachers, *([self.start] if self.start else ()))


R = TypeVar("R", bound=AnyRecipe)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file of an emotion model; see `read_recipe_as`."""
    return read_recipe_as(Recipe, path)


def read_recipe_as(kind: type[R], path: Path) -> R:
    """Read a recipe file of some kind.

    Raises:
        RecipeError: the file cannot be read, is invalid TOML, or its settings are refused.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        return kind.model_validate({"name": path.stem, **settings})
    except OSError as error:
        raise RecipeError(
            f"RECIPE: cannot be read: {error.strerror} (got {path}); correct the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: invalid TOML: {error}") from error
    except ValidationError as error:
        raise RecipeError(f"{path}: {_problems(kind, error)}") from error


def require_distinct_names(names: Iterable[str]) -> None:
    """Refuse recipes with the same name in a ladder or a bundle.

    Raises:
        RecipeError: two have the same name.
    """
    times = Counter(names)
    if twice := [name for name in sorted(times) if times[name] > 1]:
        raise RecipeError(f"more than one recipe has the name {', '.join(twice)}")


def _problems(kind: type[BaseModel], error: ValidationError) -> str:
    return "; ".join(_problem(kind, problem) for problem in error.errors())


def _problem(kind: type[BaseModel], problem: ErrorDetails) -> str:
    """A problem as `SETTING: PROBLEM`, with the most similar name for an unknown setting."""
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        return f"{name}.family: unknown (got '{context['tag']}'); use {context['expected_tags']}"
    if problem["type"] != "extra_forbidden":
        return ": ".join([*([name] if path else []), reason(problem)])
    *parents, key = path
    models = [kind]
    for parent in parents:
        tagged = [model for model in models if parent == _family(model)]
        models = tagged or [inner for model in models for inner in _sections(model, parent)]
    known = {field for model in models for field in model.model_fields}
    return f"{name}: unknown setting{did_you_mean(key, sorted(known))}"


def _family(model: type[BaseModel]) -> str | None:
    """The tag of a family's settings, which is part of a location; None for other models."""
    field = model.model_fields.get("family")
    return str(get_args(field.annotation)[0]) if field is not None else None


def _sections(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    field = model.model_fields.get(name)
    return [] if field is None else _models_in(field.annotation)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """The models in a type, such as those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
