"""Figures of a model on labelled faces."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from edge_daemon.emotions import EMOTIONS
from edge_daemon.inference.bundle import Metrics
from emotion_trainer.calibration import calibration_error
from emotion_trainer.data import Dataset
from emotion_trainer.data.dataset import PUBLIC_TEST, TRAINING
from emotion_trainer.data.duplicates import find_duplicates
from emotion_trainer.predictions import Scores


def measure(probabilities: Scores, labels: NDArray[np.int64], split: str = PUBLIC_TEST) -> Metrics:
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


def report(probabilities: Scores, dataset: Dataset) -> str:
    """The figures on the validation split as Markdown, for a terminal or a model card."""
    labels = dataset.validation.labels
    metrics = measure(probabilities, labels, dataset.validation_name)
    lines = [
        f"{metrics.split}, {len(labels)} faces: accuracy {metrics.accuracy:.4f}, "
        f"expected calibration error {metrics.calibration_error:.4f}",
        *_without_known(probabilities, dataset),
        "",
        f"| label | {' | '.join(EMOTIONS)} | recall |",
        f"| --- |{' ---: |' * (len(EMOTIONS) + 1)}",
    ]
    for name, row in zip(EMOTIONS, confuse(probabilities, labels), strict=True):
        lines.append(f"| {name} | {' | '.join(map(str, row))} | {metrics.recall[name]:.3f} |")
    return "\n".join(lines)


def _without_known(probabilities: Scores, dataset: Dataset) -> list[str]:
    """The accuracy on what the model cannot have learnt by heart, where that makes a difference."""
    known = find_duplicates(dataset).across.faces
    right = probabilities.argmax(axis=1) == dataset.validation.labels
    if not known.any():
        return []
    if known.all():
        return [f"all of these faces are also in {TRAINING}: the accuracy tells nothing"]
    return [
        f"without the {known.sum()} faces that are also in {TRAINING}: "
        f"accuracy {right[~known].mean():.4f}"
    ]
