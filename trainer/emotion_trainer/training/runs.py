"""A run's folder: the files of a training, which later commands read."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar, cast

import keras
from pydantic import ValidationError

from emotion_trainer.errors import ExportError, TrainingError
from emotion_trainer.models.predictions import RECORD_NAME, is_run, load_keras
from emotion_trainer.training.checkpoint import Epoch, load_history
from emotion_trainer.training.provenance import AnyRecord, RunRecord
from emotion_trainer.training.stopping import is_over

Record = TypeVar("Record", bound=AnyRecord)


@dataclass(frozen=True)
class AnyRun(Generic[Record]):
    """The folder of one training, of any kind of network."""

    record_type: ClassVar[type[AnyRecord]]
    checkpoint_name: ClassVar[str]

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The state after the latest epoch, from which training is resumed."""
        return self.folder / self.checkpoint_name

    @property
    def best(self) -> Path:
        """The averaged weights of the best epoch, as a Keras model."""
        return self.folder / "best.keras"

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a run."""
        return is_run(self.folder)

    @property
    def mlflow_run_id(self) -> str | None:
        """The run's id in MLflow; None if it was never logged there."""
        path = self._mlflow_run_id
        return path.read_text(encoding="utf-8").strip() if path.exists() else None

    def store_mlflow_run_id(self, run_id: str) -> None:
        """Store the id, so that later results are logged to the same run."""
        self._mlflow_run_id.write_text(run_id + "\n", encoding="utf-8")

    def models(self) -> dict[str, Path]:
        """The files of the best weights so far: `float`, and `int8` where they are exported."""
        if not self.best.exists():
            return {}
        exported = {"int8": self.int8_path} if self.is_exported else {}
        return {"float": self.best, **exported}

    @property
    def int8_path(self) -> Path:
        """Where the int8 file is, or will be."""
        return self.int8_path_of(self.record().recipe.name)

    def int8_path_of(self, recipe_name: str) -> Path:
        """Where the int8 file will be if the run is of a recipe of this name."""
        return self.folder / f"{recipe_name}_int8.tflite"

    @property
    def is_exported(self) -> bool:
        """Whether the int8 file is there and as new as the best weights."""
        path = self.int8_path
        return path.exists() and path.stat().st_mtime >= self.best.stat().st_mtime

    def begin(self, record: Record) -> None:
        """Create the folder and write the record, unless they exist.

        Once an epoch is finished, only the recipe's section on bundling is updated in the record.

        Raises:
            TrainingError: the folder holds a run of another recipe or other data.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.is_begun:
            self._write(record)
            return
        begun = self.record()
        if not begun.is_same_training(record):
            raise TrainingError(
                f"{self.folder}: holds a run of {record.DIFFERENCE}; "
                "remove it, or give another --run folder"
            )
        if not self.checkpoint.exists():
            self._write(record)
        elif begun.recipe != record.recipe:
            self._write(begun.model_copy(update={"recipe": record.recipe}))

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Create the folder and lock it: two trainings would overwrite each other's files.

        Raises:
            TrainingError: another process trains in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TrainingError(
                    f"{self.folder}: in use by another training; wait for its end, or give "
                    "another folder"
                ) from error
            except OSError:
                pass  # a file system without locks
            yield
        finally:
            os.close(descriptor)

    def record(self) -> Record:
        """The recipe, data and code of the training.

        Raises:
            TrainingError: the folder holds no run, or its record is damaged.
        """
        try:
            record = self.record_type.model_validate_json(self._record.read_bytes())
        except OSError as error:
            raise TrainingError(f"{self._record}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise TrainingError(
                f"{self._record}: is damaged, or of another version of the trainer"
            ) from error
        return cast("Record", record)

    def best_model(self) -> keras.Model:
        """The model of the best epoch.

        Raises:
            TrainingError: no epoch was finished, or the file is damaged.
        """
        return load_keras(self.best)

    def require_exported(self) -> Path:
        """The int8 file.

        Raises:
            ExportError: the run was not exported since its best epoch.
        """
        path = self.int8_path
        if not self.is_exported:
            raise ExportError(f"{path}: is missing or older than the weights; export the run first")
        return path

    def _write(self, record: Record) -> None:
        unfinished = self._record.with_suffix(".part")
        unfinished.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self._record)

    @property
    def _record(self) -> Path:
        return self.folder / RECORD_NAME

    @property
    def _mlflow_run_id(self) -> Path:
        return self.folder / "mlflow_run_id"


class Run(AnyRun[RunRecord]):
    """The folder of one emotion model's training."""

    record_type = RunRecord
    checkpoint_name = "checkpoint.npz"

    @property
    def history(self) -> tuple[Epoch, ...]:
        """The epochs so far.

        Raises:
            TrainingError: the checkpoint is damaged.
        """
        return load_history(self.checkpoint)

    @property
    def is_finished(self) -> bool:
        """Whether its training is over; that of a folder without a run is not.

        Raises:
            TrainingError: the record or the checkpoint is damaged.
        """
        if not self.is_begun:
            return False
        settings = self.record().recipe.optimisation
        return is_over(self.history, settings.epochs, settings.patience)

    @property
    def soft_labels(self) -> Path:
        """The teachers' mean predictions, where the recipe has teachers."""
        return self.folder / "soft_labels.npz"
