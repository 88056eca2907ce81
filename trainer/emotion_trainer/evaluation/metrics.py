"""Figures of a model on labelled faces."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from edge_daemon.inference.bundle import Metrics
from edge_daemon.records import EMOTIONS
from emotion_trainer.data import Dataset
from emotion_trainer.data.dataset import TRAINING
from emotion_trainer.data.duplicates import find_duplicates
from emotion_trainer.evaluation.calibration import calibration_error
from emotion_trainer.models.predictions import Scores


@dataclass(frozen=True)
class Unlearnt:
    """The validation faces that a model cannot have learnt by heart.

    Attributes:
        learnt: how many others are, pixel for pixel, in the training split too.
        accuracy: on those that are not; None if all are.
    """

    learnt: int
    accuracy: float | None


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
    """Confusion matrix, int64 [7, 7]: a row for each label, a column for each answer."""
    answers = probabilities.argmax(axis=1)
    matrix: NDArray[np.int64] = confusion_matrix(labels, answers, labels=range(len(EMOTIONS)))
    return matrix


def measure_unlearnt(probabilities: Scores, dataset: Dataset) -> Unlearnt:
    """The accuracy on the faces of the validation split that are not in the training split too."""
    learnt = find_duplicates(dataset).across.faces
    right = probabilities.argmax(axis=1) == dataset.validation.labels
    accuracy = None if learnt.all() else float(right[~learnt].mean())
    return Unlearnt(int(learnt.sum()), accuracy)


def report(probabilities: Scores, dataset: Dataset) -> str:
    """The figures on the validation split as Markdown, for a terminal or a model card."""
    labels = dataset.validation.labels
    metrics = measure(probabilities, labels, dataset.validation_name)
    lines = [
        f"{metrics.split}, {len(labels)} faces: accuracy {metrics.accuracy:.4f}, "
        f"expected calibration error {metrics.calibration_error:.4f}",
        *_of_unlearnt(measure_unlearnt(probabilities, dataset)),
        "",
        f"| label | {' | '.join(EMOTIONS)} | recall |",
        f"| --- |{' ---: |' * (len(EMOTIONS) + 1)}",
    ]
    for name, row in zip(EMOTIONS, confuse(probabilities, labels), strict=True):
        lines.append(f"| {name} | {' | '.join(map(str, row))} | {metrics.recall[name]:.3f} |")
    return "\n".join(lines)


def _of_unlearnt(figures: Unlearnt) -> list[str]:
    if not figures.learnt:
        return []
    if figures.accuracy is None:
        return [f"all of these faces are also in {TRAINING}: the accuracy tells nothing"]
    return [
        f"without the {figures.learnt} faces that are also in {TRAINING}: "
        f"accuracy {figures.accuracy:.4f}"
    ]
