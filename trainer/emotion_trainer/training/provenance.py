"""The recipe, data and code of a training, stored with its weights so that it can be repeated."""

import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict

from edge_daemon._lib.files import sha256_of
from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError
from emotion_trainer.models.families.initial_weights import InitialWeights
from emotion_trainer.recipe import AnyRecipe, Recipe
from emotion_trainer.training.soft_labels import Teacher

UNKNOWN_COMMIT: Final = "unknown"


class AnyRecord(BaseModel):
    """The origin of a training of any kind.

    Attributes:
        DIFFERENCE: what differs in another training, for an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    DIFFERENCE: ClassVar[str] = "another recipe or other data"

    recipe: AnyRecipe
    data_fingerprint: str
    commit: str

    def is_same_training(self, other: Self) -> bool:
        """Whether both have the same recipe and data; the code may have changed."""
        return (self.recipe, self.data_fingerprint) == (other.recipe, other.data_fingerprint)


class Trial(BaseModel):
    """A shortened training, to try the commands; its figures mean nothing for the recipe.

    Attributes:
        recipe_epochs: epochs in the recipe's file.
        limit: maximum faces of each split, and of the unlabelled ones; None: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe_epochs: int
    limit: int | None = None


class RunRecord(AnyRecord):
    """The origin of an emotion model.

    Attributes:
        recipe: the settings.
        unlabelled_fingerprint: of the unlabelled faces, where there were any.
        start_sha256: of the model file that the training continued from.
        start_origins: that model, and what it was trained from.
        weights_sha256: of the file of pretrained weights that the network started from.
        data_source: the path of the data at that time.
        training_faces: how many faces it was trained on.
        validation_faces: how many it was validated on.
        trial: how the training was cut short, if it was.
    """

    recipe: Recipe
    unlabelled_fingerprint: str | None
    start_sha256: str | None
    start_origins: tuple[Teacher, ...] = ()
    weights_sha256: str | None = None
    data_source: str = ""
    training_faces: int | None = None
    validation_faces: int | None = None
    trial: Trial | None = None

    @property
    def warning(self) -> str | None:
        """A warning about the figures of a trial; None for a whole training."""
        if self.trial is None:
            return None
        faces = f" of {self.training_faces:,} faces" if self.trial.limit is not None else ""
        return (
            f"{self.recipe.name}: a trial of {self.recipe.optimisation.epochs} of "
            f"{self.trial.recipe_epochs} epochs{faces}; its figures mean nothing for the recipe"
        )

    def is_same_training(self, other: Self) -> bool:
        """Whether both have the same recipe, `bundled` aside, and data; the code may have changed.

        The files that a training starts from may have changed too: the checkpoint replaces them.
        """
        ignored: dict[str, object] = {"commit": "", "data_source": ""}
        ignored |= {"start_sha256": None, "start_origins": (), "weights_sha256": None}
        ignored |= {"training_faces": None, "validation_faces": None}  # the fingerprint counts
        recipe = self.recipe.model_copy(update={"bundled": other.recipe.bundled})
        mine = self.model_copy(update={"recipe": recipe, **ignored})
        return mine == other.model_copy(update=ignored)


def cut_short(recipe: Recipe, epochs: int | None, limit: int | None) -> tuple[Recipe, Trial | None]:
    """The recipe with other epochs, and the trial that this makes of it.

    Args:
        recipe: as in its file.
        epochs: instead of the recipe's; None: the recipe's.
        limit: maximum faces of each split, and of the unlabelled ones; None: all.

    Returns:
        No trial if nothing is cut short.
    """
    planned = recipe.optimisation
    if epochs is not None:
        changes = {"epochs": epochs, "warmup_epochs": min(planned.warmup_epochs, epochs / 4)}
        recipe = recipe.model_copy(update={"optimisation": planned.model_copy(update=changes)})
    if limit is None and recipe.optimisation.epochs >= planned.epochs:
        return recipe, None
    return recipe, Trial(recipe_epochs=planned.epochs, limit=limit)


def record_of(
    recipe: Recipe,
    dataset: Dataset,
    trial: Trial | None = None,
    start_origins: tuple[Teacher, ...] = (),
) -> RunRecord:
    """The record of a training that begins now.

    Args:
        recipe: the settings.
        dataset: what it is trained on.
        trial: how it is cut short, if it is.
        start_origins: of the model that it continues from, if any; see `origins`.

    Raises:
        RecipeError: a file that the recipe starts from is missing.
    """
    require_files(recipe)
    return RunRecord(
        recipe=recipe,
        data_fingerprint=dataset.fingerprint,
        unlabelled_fingerprint=dataset.unlabelled_fingerprint,
        start_sha256=_checksum(recipe.start),
        start_origins=start_origins,
        weights_sha256=_checksum(weights_file(recipe)),
        data_source=dataset.source,
        training_faces=len(dataset.training),
        validation_faces=len(dataset.validation),
        trial=trial,
        commit=current_commit(),
    )


def weights_file(recipe: Recipe) -> Path | None:
    """The file of pretrained weights that the network starts from, if any."""
    model = recipe.model
    return model.weights if isinstance(model, InitialWeights) else None


def require_files(recipe: Recipe, pending: Collection[Path] = ()) -> None:
    """Refuse a recipe whose initial weights are missing.

    Args:
        recipe: a recipe, with initial weights or without.
        pending: resolved paths of files that will be there by then.

    Raises:
        RecipeError: a file that the recipe starts from is neither there nor pending.
    """
    for setting, path, fix in (
        ("start", recipe.start, "give a .tflite or .keras file"),
        ("model.weights", weights_file(recipe), "see the recipe's header"),
    ):
        if path is not None and not path.is_file() and path.resolve() not in pending:
            raise RecipeError(f"{setting}: no such file (got {path}); {fix}")


def _checksum(path: Path | None) -> str | None:
    return None if path is None else sha256_of(path)


def current_commit() -> str:
    """The commit of this code, `-dirty` after it if the code was changed since."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return UNKNOWN_COMMIT
    return f"{commit}-dirty" if _git("status", "--porcelain", "--", ".") else commit


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10.0,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
