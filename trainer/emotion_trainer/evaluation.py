"""Figures of a model on labelled faces."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from edge_daemon.emotions import EMOTIONS
from edge_daemon.inference.bundle import Metrics
from emotion_trainer.calibration import calibration_error
from emotion_trainer.predictions import Faces, Scores

VALIDATION_NAME: Final = "PublicTest"


def measure(probabilities: Scores, labels: NDArray[np.int64]) -> Metrics:
    """The figures that a bundle's manifest holds, on the validation split.

    The recall of an emotion that no face is labelled with is 0.
    """
    confusion = confuse(probabilities, labels)
    recall = confusion.diagonal() / np.maximum(confusion.sum(axis=1), 1)
    return Metrics(
        split=VALIDATION_NAME,
        accuracy=round(float(confusion.trace() / confusion.sum()), 4),
        recall={name: round(float(share), 4) for name, share in zip(EMOTIONS, recall, strict=True)},
        calibration_error=round(calibration_error(probabilities, labels), 4),
    )


def confuse(probabilities: Scores, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Confusion matrix, int64 [7, 7]: a row for each label, a column for each answer."""
    answers = probabilities.argmax(axis=1)
    matrix: NDArray[np.int64] = confusion_matrix(labels, answers, labels=range(len(EMOTIONS)))
    return matrix


def among(faces: Faces, others: Faces) -> NDArray[np.bool_]:
    """Which faces are, pixel for pixel, among others too: bool [N]."""
    known = {face.tobytes() for face in others}
    return np.array([face.tobytes() in known for face in faces])


def report(probabilities: Scores, labels: NDArray[np.int64]) -> str:
    """The figures as Markdown, for a terminal or a model card."""
    metrics = measure(probabilities, labels)
    lines = [
        f"{metrics.split}, {len(labels)} faces: accuracy {metrics.accuracy:.4f}, "
        f"expected calibration error {metrics.calibration_error:.4f}",
        "",
        f"| label | {' | '.join(EMOTIONS)} | recall |",
        f"| --- |{' ---: |' * (len(EMOTIONS) + 1)}",
    ]
    for name, row in zip(EMOTIONS, confuse(probabilities, labels), strict=True):
        lines.append(f"| {name} | {' | '.join(map(str, row))} | {metrics.recall[name]:.3f} |")
    return "\n".join(lines)
