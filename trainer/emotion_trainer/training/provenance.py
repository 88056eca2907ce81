"""What a training was made of, kept beside its weights so that it can be made again."""

import subprocess
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

from edge_daemon._lib.files import sha256_of
from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError
from emotion_trainer.recipe import AnyRecipe, Recipe

UNKNOWN_COMMIT: Final = "unknown"


class AnyRecord(BaseModel):
    """The origin of a training of any kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: AnyRecipe
    data_fingerprint: str
    commit: str

    def is_same_training(self, other: Self) -> bool:
        """Whether both have the same recipe and data; the code may have moved on."""
        return (self.recipe, self.data_fingerprint) == (other.recipe, other.data_fingerprint)


class RunRecord(AnyRecord):
    """The origin of an emotion model."""

    recipe: Recipe
    unlabelled_fingerprint: str | None
    start_sha256: str | None

    def is_same_training(self, other: Self) -> bool:
        """Whether both have the same recipe, `bundled` aside, and data; the code may have changed.

        The file that a training continues from may have changed too: the checkpoint replaces it.
        """
        ignored = {"commit": "", "start_sha256": None}
        recipe = self.recipe.model_copy(update={"bundled": other.recipe.bundled})
        mine = self.model_copy(update={"recipe": recipe, **ignored})
        return mine == other.model_copy(update=ignored)


def record_of(recipe: Recipe, dataset: Dataset) -> RunRecord:
    """The record of a training that begins now.

    Raises:
        RecipeError: the file that the recipe continues from is missing.
    """
    start = recipe.start
    if start is not None and not start.is_file():
        raise RecipeError(f"start: {start}: no such file; give a .tflite or .keras file")
    return RunRecord(
        recipe=recipe,
        data_fingerprint=dataset.fingerprint,
        unlabelled_fingerprint=dataset.unlabelled_fingerprint,
        start_sha256=sha256_of(start) if start is not None else None,
        commit=current_commit(),
    )


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
