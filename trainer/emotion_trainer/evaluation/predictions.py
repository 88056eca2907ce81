"""A model's predictions for the validation split, stored next to its file.

Figures and plots of a run are made from them, without the data and without running the model.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.files import sha256_of
from edge_daemon.inference.bundle import Metrics
from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.data import Dataset, Split
from emotion_trainer.evaluation.metrics import confuse, measure
from emotion_trainer.models.predictions import Scores, logits_of
from emotion_trainer.training.runs import Run


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for labelled faces.

    Attributes:
        model_sha256: of the model's file.
        split: the name of the split.
        split_sha256: of the faces and their labels.
        labels: int64 [N].
        log_probabilities: float32 [N, 7].
    """

    model_sha256: str
    split: str
    split_sha256: str
    labels: NDArray[np.int64]
    log_probabilities: Scores

    @property
    def probabilities(self) -> Scores:
        """Float32 [N, 7], rows sum to 1."""
        return np.exp(self.log_probabilities)

    @property
    def metrics(self) -> Metrics:
        """The figures that a bundle's manifest holds."""
        return measure(self.probabilities, self.labels, self.split)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Int64 [7, 7]: a row for each label, a column for each prediction."""
        return confuse(self.log_probabilities, self.labels)


def predictions_of(model: Path, dataset: Dataset, *, mirrored: bool = False) -> Predictions:
    """The predictions of a `.keras` or `.tflite` file, computed unless they are stored already.

    Args:
        model: the file.
        dataset: whose validation split is shown to the model.
        mirrored: mirror each face.

    Raises:
        BundleError, TrainingError: the file is missing or damaged.
    """
    kept = stored_predictions(model, mirrored=mirrored)
    expected = (dataset.validation_name, _digest(dataset.validation))
    if kept is not None and (kept.split, kept.split_sha256) == expected:
        return kept
    predictions = predict(model, dataset, mirrored=mirrored)
    np.savez(_place(model, mirrored=mirrored), **vars(predictions))
    return predictions


def predict(model: Path, dataset: Dataset, *, mirrored: bool = False) -> Predictions:
    """Compute the predictions, without storing them.

    Raises:
        BundleError, TrainingError: the file is missing or damaged.
    """
    name, split = dataset.validation_name, dataset.validation
    faces = split.images[:, :, ::-1] if mirrored else split.images
    logs = log_softmax(logits_of(model, faces))
    return Predictions(sha256_of(model), name, _digest(split), split.labels, logs)


def stored_predictions(model: Path, *, mirrored: bool = False) -> Predictions | None:
    """The predictions next to a model; None if there are none, or the model has changed."""
    try:
        with np.load(_place(model, mirrored=mirrored), allow_pickle=False) as file:
            predictions = Predictions(
                str(file["model_sha256"]),
                str(file["split"]),
                str(file["split_sha256"]),
                file["labels"],
                file["log_probabilities"],
            )
        return predictions if predictions.model_sha256 == sha256_of(model) else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # Missing or truncated predictions are computed again.
        return None


def store_predictions(run: Run, dataset: Dataset) -> None:
    """Store the predictions of a run's models that are not stored yet.

    Raises:
        BundleError, TrainingError: a file is damaged.
    """
    for model in run.models().values():
        predictions_of(model, dataset)


def _place(model: Path, *, mirrored: bool) -> Path:
    return model.with_suffix(".mirrored.npz" if mirrored else ".predictions.npz")


def _digest(split: Split) -> str:
    return hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()
