"""Figures of a model on labelled faces."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from edge_daemon.inference.bundle import Metrics
from edge_daemon.records import EMOTIONS
from emotion_trainer.data import Dataset
from emotion_trainer.data.dataset import TRAINING
from emotion_trainer.data.duplicates import find_duplicates, near_copies
from emotion_trainer.evaluation.calibration import calibration_error
from emotion_trainer.evaluation.priors import PriorEffect, prior_effects
from emotion_trainer.models.predictions import Scores


@dataclass(frozen=True)
class WithoutCopies:
    """Figures without the validation faces that have a near-copy in the training split.

    Attributes:
        copies: the faces left out.
        identical: how many of them are in the training split pixel for pixel.
        accuracy: on the other faces; None if there are none.
        calibration_error: likewise.
    """

    copies: int
    identical: int
    accuracy: float | None
    calibration_error: float | None


def measure(probabilities: Scores, labels: NDArray[np.int64], split: str) -> Metrics:
    """The figures that a bundle's manifest holds; `split` names the faces they are measured on.

    The recall of an emotion that no face is labelled with is 0.
    """
    confusion = confuse(probabilities, labels)
    recall = confusion.diagonal() / np.maximum(confusion.sum(axis=1), 1)
    return Metrics(
        split=split,
        accuracy=round(float(confusion.trace() / confusion.sum()), 4),
        recall={name: round(float(share), 4) for name, share in zip(EMOTIONS, recall, strict=True)},
        calibration_error=round(calibration_error(probabilities, labels), 4),
    )


def confuse(probabilities: Scores, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Confusion matrix, int64 [7, 7]: a row for each label, a column for each prediction."""
    predictions = probabilities.argmax(axis=1)
    matrix: NDArray[np.int64] = confusion_matrix(labels, predictions, labels=range(len(EMOTIONS)))
    return matrix


def measure_without_copies(probabilities: Scores, dataset: Dataset) -> WithoutCopies:
    """Figures on the validation faces that have no near-copy in the training split."""
    copies = near_copies(dataset)
    identical = int(find_duplicates(dataset).across.faces.sum())
    if copies.all():
        return WithoutCopies(len(copies), identical, None, None)
    kept, labels = probabilities[~copies], dataset.validation.labels[~copies]
    return WithoutCopies(
        copies=int(copies.sum()),
        identical=identical,
        accuracy=float((kept.argmax(axis=1) == labels).mean()),
        calibration_error=calibration_error(kept, labels),
    )


def report(probabilities: Scores, dataset: Dataset) -> str:
    """The figures on the validation split as Markdown, for a terminal or a model card."""
    labels = dataset.validation.labels
    metrics = measure(probabilities, labels, dataset.validation_name)
    lines = [
        f"{metrics.split}, {len(labels)} faces: accuracy {metrics.accuracy:.4f}, "
        f"expected calibration error {metrics.calibration_error:.4f}",
        *_without_copies(measure_without_copies(probabilities, dataset)),
        *_priors(prior_effects(probabilities, labels)),
        "",
        f"| label | {' | '.join(EMOTIONS)} | recall |",
        f"| --- |{' ---: |' * (len(EMOTIONS) + 1)}",
    ]
    for name, row in zip(EMOTIONS, confuse(probabilities, labels), strict=True):
        lines.append(f"| {name} | {' | '.join(map(str, row))} | {metrics.recall[name]:.3f} |")
    return "\n".join(lines)


def _without_copies(figures: WithoutCopies) -> list[str]:
    if not figures.copies:
        return []
    if figures.accuracy is None:
        return [f"every face has a near-copy in {TRAINING}: the accuracy means nothing"]
    return [
        f"without the {figures.copies} faces that have a near-copy in {TRAINING}: "
        f"accuracy {figures.accuracy:.4f}, "
        f"expected calibration error {figures.calibration_error:.4f}"
    ]


def _priors(effects: list[PriorEffect]) -> list[str]:
    return [
        f"prior {effect.prior}: accuracy {effect.accuracy:.4f}, "
        f"expected calibration error {effect.calibration_error:.4f}; with a camera's shares of "
        f"emotions {effect.camera_accuracy:.4f} and {effect.camera_calibration_error:.4f}"
        for effect in effects
    ]
