"""Matching of detections with labelled faces: average precision, recall, landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import Detection
from emotion_trainer.detector.boxes import iou
from emotion_trainer.detector.faces import Faces, Finder, Floats, LabelledImage, concatenate_faces

MIN_IOU: Final = 0.5
"""Intersection over union from which two boxes are of the same face."""
MIN_IGNORED_IOU: Final = 0.3
"""Likewise for a doubtful face, whose box is inexact; the detection is ignored."""


@dataclass(frozen=True)
class Matches:
    """The matches of all images together.

    Attributes:
        counted: the detections, those with the highest score of each image first; those of
            doubtful faces are left out.
        right: bool [D]: whether a detection matches a face that none with a higher score matches.
        found: float32 [F]: the score of the detection of each true face, 0 if it was missed.
        truth: the true faces, without the doubtful ones.
        ious: float32 [F]: intersection over union with the detection; NaN if missed.
        landmark_errors: float32 [F]: mean distance of the landmarks in parts of the face's size;
            NaN if missed or unknown.
    """

    counted: list[Detection]
    right: NDArray[np.bool_]
    found: Floats
    truth: Faces
    ious: Floats
    landmark_errors: Floats

    @property
    def scores(self) -> Floats:
        """The scores of the detections that count: float32 [D]."""
        return np.array([detection.score for detection in self.counted], np.float32)


def match_images(
    found: Sequence[list[Detection]], truth: Sequence[Faces], min_iou: float = MIN_IOU
) -> Matches:
    """Match the detections in images with their faces, in the order of the scores."""
    parts = [_match(*pair, min_iou) for pair in zip(found, truth, strict=True)]
    return Matches(
        [detection for part in parts for detection in part.counted],
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.found for part in parts]),
        concatenate_faces([part.truth for part in parts]),
        np.concatenate([part.ious for part in parts]),
        np.concatenate([part.landmark_errors for part in parts]),
    )


def match_photos(find: Finder, photos: Sequence[LabelledImage]) -> Matches:
    """Match what a detector finds in whole photos with their labels."""
    found = [find([photo.image])[0] for photo in photos]
    return match_images(found, [photo.faces for photo in photos])


def _match(found: list[Detection], truth: Faces, min_iou: float) -> Matches:
    boxes = np.array([detection.box for detection in found], np.float32).reshape(-1, 4)
    ious = iou(boxes, truth.boxes)
    sure = ~truth.doubtful
    counted, right = [], []
    scores = np.zeros(len(truth), np.float32)
    errors = np.full(len(truth), np.nan, np.float32)
    matched = np.full(len(truth), np.nan, np.float32)
    for index in np.argsort([-detection.score for detection in found], kind="stable"):
        detection, row = found[index], ious[index]
        free = np.where(sure & (scores == 0), row, 0.0)
        best = int(free.argmax()) if len(row) else -1
        is_right = best >= 0 and free[best] >= min_iou
        if not is_right and (row[~sure] >= MIN_IGNORED_IOU).any():
            continue
        counted.append(detection)
        right.append(is_right)
        if is_right:
            scores[best], matched[best] = detection.score, row[best]
            errors[best] = _landmark_error(detection, truth, best)
    return Matches(
        counted,
        np.array(right, np.bool_),
        scores[sure],
        truth.chosen(sure),
        matched[sure],
        errors[sure],
    )


def _landmark_error(detection: Detection, truth: Faces, index: int) -> float:
    if detection.landmarks is None:
        return float("nan")
    distances = np.linalg.norm(detection.landmarks - truth.landmarks[index], axis=1)
    return float(distances.mean() / truth.sizes[index])


def average_precision(matches: Matches) -> float:
    """The area under precision over recall, precision made monotonous (Everingham et al. 2010)."""
    right = matches.right[np.argsort(-matches.scores, kind="stable")].cumsum()
    precision = right / np.arange(1, len(right) + 1)
    recall = right / max(1, len(matches.found))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
