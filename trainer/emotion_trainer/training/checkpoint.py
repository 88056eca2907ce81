"""A training's state on disk, to resume it after its process was killed."""

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from emotion_trainer.errors import TrainingError


@dataclass(frozen=True)
class Epoch:
    """The result of one epoch.

    Attributes:
        number: counted from 1.
        loss: mean training loss.
        score: of the averaged weights on the validation split; an emotion model's accuracy, a
            detector's average precision.
        seconds: duration, validation included.
    """

    number: int
    loss: float
    score: float
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
    """All variables that a training changes: weights, random layers, the optimiser.

    They are the same with each backend and in each precision, so a training can continue with
    another one. The loss scale of float16 is left out: it recovers within a few steps.
    """
    optimiser = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return [*model.variables, *optimiser.variables]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint to `path`; a kill leaves the previous one intact."""
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
    with _opened(path) as file:
        return Checkpoint(
            history=_history(file),
            variables=_series(file, "variable_"),
            average=_series(file, "average_"),
        )


def load_history(path: Path) -> tuple[Epoch, ...]:
    """The epochs in the checkpoint at `path`, without the arrays; none if there is no such file.

    Raises:
        TrainingError: it is damaged.
    """
    if not path.exists():
        return ()
    with _opened(path) as file:
        return _history(file)


@contextmanager
def _opened(path: Path) -> Iterator["np.lib.npyio.NpzFile"]:
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: is damaged: {error}; remove it to start again") from error


def _history(file: "np.lib.npyio.NpzFile") -> tuple[Epoch, ...]:
    return tuple(Epoch(**epoch) for epoch in json.loads(str(file["history"])))


def _series(file: "np.lib.npyio.NpzFile", prefix: str) -> list[NDArray[Any]]:
    count = sum(name.startswith(prefix) for name in file.files)
    return [file[f"{prefix}{i}"] for i in range(count)]
