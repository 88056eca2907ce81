"""What a training was made of, kept beside its weights so that it can be made again."""

import subprocess
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from emotion_trainer.data import Dataset
from emotion_trainer.recipe import Recipe

UNKNOWN_COMMIT: Final = "unknown"


class RunRecord(BaseModel):
    """The origin of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    data_fingerprint: str
    commit: str

    def is_same_training(self, other: "RunRecord") -> bool:
        """Whether both have the same recipe and data.

        The code may have moved on, and whether the network is to be bundled is another matter.
        """
        recipe = self.recipe.model_copy(update={"bundled": other.recipe.bundled})
        return (recipe, self.data_fingerprint) == (other.recipe, other.data_fingerprint)


def record_of(recipe: Recipe, dataset: Dataset) -> RunRecord:
    """The record of a training that begins now."""
    return RunRecord(recipe=recipe, data_fingerprint=dataset.fingerprint, commit=current_commit())


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
