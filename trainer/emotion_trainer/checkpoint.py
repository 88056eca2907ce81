"""A training's state on disk, so that it can go on after its process was killed."""

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from emotion_trainer.errors import TrainingError


@dataclass(frozen=True)
class Epoch:
    """What came of one epoch; accuracy is that of the averaged weights on the validation split."""

    number: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after an epoch.

    Attributes:
        history: the epochs so far.
        variables: the model's and the optimiser's variables, in their own order.
        average: the averaged weights.
    """

    history: tuple[Epoch, ...]
    variables: list[NDArray[Any]]
    average: list[NDArray[np.float32]]


def training_variables(model: keras.Model) -> list[keras.Variable]:
    """All that a training changes: weights, the state of random layers, the optimiser's state."""
    return [*model.variables, *model.optimizer.variables]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write it to `path`; a kill in the middle leaves the one before intact."""
    history = json.dumps([vars(epoch) for epoch in checkpoint.history])
    arrays: dict[str, Any] = {"history": np.array(history)}
    arrays |= {f"variable_{i}": array for i, array in enumerate(checkpoint.variables)}
    arrays |= {f"average_{i}": array for i, array in enumerate(checkpoint.average)}
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load(path: Path) -> Checkpoint:
    """Read the checkpoint at `path`.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            history = json.loads(str(file["history"]))
            return Checkpoint(
                history=tuple(Epoch(**epoch) for epoch in history),
                variables=_series(file, "variable_"),
                average=_series(file, "average_"),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: is damaged: {error}; remove it to start again") from error


def history(path: Path) -> tuple[Epoch, ...]:
    """The epochs so far; none if there is no checkpoint yet.

    Raises:
        TrainingError: the checkpoint is damaged.
    """
    return load(path).history if path.exists() else ()


def _series(file: "np.lib.npyio.NpzFile", prefix: str) -> list[NDArray[Any]]:
    count = sum(name.startswith(prefix) for name in file.files)
    return [file[f"{prefix}{i}"] for i in range(count)]
