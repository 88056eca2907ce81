"""Errors of the trainer, a branch of the daemon's tree of errors.

EdgeDaemonError
└── TrainerError         exit 1
    ├── DataError        exit 1: the data set cannot be read
    │   └── RowError     one row or image of it cannot be read, and may be skipped
    ├── RecipeError      exit 2: the recipe is refused
    ├── TrainingError    exit 1: training cannot start, continue or be resumed
    ├── ExportError      exit 1: no int8 model could be made, or it disagrees with the original
    ├── TrackingError    exit 1: MLflow's store cannot be reached, or refuses
    └── AnnotationError  exit 1: an image cannot be read, or its copy not be written
"""

import difflib
from collections.abc import Iterable

from edge_daemon.errors import EdgeDaemonError


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at the most similar known word, for the end of a message; empty if there is none."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


class TrainerError(EdgeDaemonError):
    """Base of all errors that the trainer raises on purpose."""


class DataError(TrainerError):
    """Raised when a data set is missing, damaged, or not of a known form."""


class RowError(DataError):
    """Raised when one row or image of a data set cannot be read; the message names it."""


class RecipeError(TrainerError):
    """Raised when a recipe is missing or refused."""

    exit_code = 2


class TrainingError(TrainerError):
    """Raised when training diverges, or its checkpoint is of another recipe or data set."""


class ExportError(TrainerError):
    """Raised when a model cannot be turned into an int8 file that predicts as the original does."""


class TrackingError(TrainerError):
    """Raised when a run cannot be logged to MLflow; a training continues without it."""


class AnnotationError(TrainerError):
    """Raised when an image cannot be read, or its copy cannot be written."""
