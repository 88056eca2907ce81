"""How well faces are found: matching, average precision, recall, landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import Detection
from emotion_trainer.detector.faces import Faces, Floats, together

SAME: Final = 0.5
"""Intersection over union from which on two boxes are of the same face."""


@dataclass(frozen=True)
class Judged:
    """What came of all pictures together.

    Attributes:
        scores: float32 [D] of all that was found, without what met a doubtful face.
        right: bool [D]: whether it is a face that nothing surer had found.
        found: float32 [F]: of each true face the score of what found it, 0 if nothing did.
        truth: the true faces, the doubtful ones left out.
        landmark_errors: float32 [F]: mean distance of the landmarks in parts of the face's size;
            NaN where it was not found, or nobody knows.
    """

    scores: Floats
    right: NDArray[np.bool_]
    found: Floats
    truth: Faces
    landmark_errors: Floats


def judge_pictures(found: Sequence[list[Detection]], truth: Sequence[Faces]) -> Judged:
    """Match what was found in pictures with what is in them, the surest first."""
    parts = [_judge(*pair) for pair in zip(found, truth, strict=True)]
    return Judged(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.found for part in parts]),
        together([part.truth for part in parts]),
        np.concatenate([part.landmark_errors for part in parts]),
    )


def _judge(found: list[Detection], truth: Faces) -> Judged:
    overlaps = overlap(np.array([d.box for d in found], np.float32).reshape(-1, 4), truth.boxes)
    scores, right = [], []
    by = np.zeros(len(truth), np.float32)
    errors = np.full(len(truth), np.nan, np.float32)
    for index in np.argsort([-detection.score for detection in found]):
        detection = found[index]
        row = np.where((by > 0) & ~truth.doubtful, 0.0, overlaps[index])
        best = int(row.argmax()) if len(row) else -1
        hit = best >= 0 and row[best] >= SAME
        if hit and truth.doubtful[best]:
            continue
        scores.append(detection.score)
        right.append(hit)
        if hit:
            by[best] = detection.score
            errors[best] = _landmark_error(detection, truth, best)
    sure = ~truth.doubtful
    return Judged(
        np.array(scores, np.float32),
        np.array(right, np.bool_),
        by[sure],
        truth.chosen(sure),
        errors[sure],
    )


def _landmark_error(detection: Detection, truth: Faces, index: int) -> float:
    if detection.landmarks is None:
        return float("nan")
    distances = np.linalg.norm(detection.landmarks - truth.landmarks[index], axis=1)
    return float(distances.mean() / truth.sizes[index])


def overlap(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of [N, 4] and [M, 4] boxes, float32 [N, M]."""
    low = np.maximum(boxes[:, np.newaxis, :2], others[:, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, np.newaxis], others[:, :2] + others[:, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    areas = boxes[:, 2:].prod(axis=1)[:, np.newaxis] + others[:, 2:].prod(axis=1)
    return np.asarray(shared / (areas - shared), np.float32)


def average_precision(judged: Judged) -> float:
    """The area under precision over recall, precision made monotonous (Everingham et al. 2010)."""
    precision, recall = precision_recall(judged)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def precision_recall(judged: Judged) -> tuple[Floats, Floats]:
    """Precision and recall as the least score falls, each [D]."""
    right = judged.right[np.argsort(-judged.scores, kind="stable")].cumsum()
    precision = right / np.arange(1, len(right) + 1)
    recall = right / max(1, len(judged.found))
    return precision.astype(np.float32), recall.astype(np.float32)
