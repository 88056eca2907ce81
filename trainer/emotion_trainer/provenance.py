"""What a training was made of, kept beside its weights so that it can be made again."""

import subprocess
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from emotion_trainer.errors import TrainingError
from emotion_trainer.recipe import Recipe

RECORD_NAME: Final = "run.json"
UNKNOWN_COMMIT: Final = "unknown"


class RunRecord(BaseModel):
    """The origin of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    data_fingerprint: str
    commit: str

    def is_same_training(self, other: "RunRecord") -> bool:
        """Whether both have the same recipe and data; the code may have moved on."""
        return (self.recipe, self.data_fingerprint) == (other.recipe, other.data_fingerprint)


def record_run(record: RunRecord, folder: Path) -> None:
    """Write the record into a run's folder, which it creates, unless it is there already.

    Raises:
        TrainingError: the folder holds a run of another recipe or other data.

    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RECORD_NAME
    if not path.exists():
        path.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    elif not read_record(folder).is_same_training(record):
        raise TrainingError(
            f"{folder}: holds a run of another recipe or other data; "
            "remove it, or give another --run folder"
        )


def read_record(folder: Path) -> RunRecord:
    """Read a run's record.

    Raises:
        TrainingError: the folder holds none, or it is damaged.

    """
    path = folder / RECORD_NAME
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise TrainingError(f"{path}: is damaged, or of another version of the trainer") from error


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
