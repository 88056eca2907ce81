"""Decoding of the bundled detector's output maps to faces; the trainer uses it too.

The network has no anchors (Tian et al. 2019, FCOS). Each cell of each map has the score of a face
centred near it, and the face's box and landmarks in strides relative to the cell.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.detection.base import MAX_FACES
from edge_daemon.records import Box, Detection

STRIDES: Final = (8, 16, 32)
"""Pixels per cell of each map, the finest first. Image sides are multiples of the last."""
GEOMETRY: Final = 14
"""Channels of a geometry map: the box's centre (x, y) relative to the cell's, in strides; the
logarithms of its width and height in strides; five landmarks (x, y), likewise."""

NMS_THRESHOLD: Final = 0.3
"""Intersection over union from which the less certain of two boxes is dropped."""
MAX_CONTAINMENT: Final = 0.7
"""Likewise, intersection over the smaller box: no face lies within another."""
SCORE_EPSILON: Final = 1e-9
"""Scores of 0 and 1 have no finite log-odds."""

Maps = Sequence[NDArray[np.float32]]


def cell_centres(rows: int, columns: int, stride: int) -> NDArray[np.float32]:
    """The centres (x, y) of a map's cells in pixels, float32 [rows, columns, 2]."""
    y, x = np.mgrid[:rows, :columns]
    return ((np.stack([x, y], axis=-1) + 0.5) * stride).astype(np.float32)


def decode(scores: Maps, geometry: Maps, min_score: float) -> list[Detection]:
    """Decode the maps of one image to faces, best first, in its pixels.

    Args:
        scores: float32 [h, w] logits, a map for each of `STRIDES`.
        geometry: float32 [h, w, GEOMETRY], likewise.
        min_score: of a face, 0 to 1.
    """
    logits = np.concatenate([*map(np.ravel, scores)])
    min_score = min(max(min_score, SCORE_EPSILON), 1 - SCORE_EPSILON)
    chosen = np.flatnonzero(logits >= math.log(min_score / (1 - min_score)))
    if not len(chosen):
        return []
    certainty = 1 / (1 + np.exp(-logits[chosen]))
    values = np.concatenate([*map(np.ravel, geometry)]).reshape(-1, GEOMETRY // 2, 2)[chosen]
    centres, strides = _cells(tuple(map(np.shape, scores)))
    centres, strides = centres[chosen], strides[chosen]
    sides = strides * np.exp(values[:, 1])
    points = centres[:, np.newaxis] + strides[:, np.newaxis] * values
    boxes = np.concatenate([points[:, 0] - sides / 2, sides], axis=1)
    landmarks = points[:, 2:]
    kept = _kept(boxes, certainty) if len(chosen) > 1 else np.zeros(1, int)
    return [
        Detection(Box(*boxes[index].tolist()), float(certainty[index]), landmarks[index])
        for index in kept.tolist()
    ]


def without_duplicates(detections: Sequence[Detection]) -> list[Detection]:
    """The detections that no better one overlaps or contains, best first."""
    if len(detections) < 2:
        return list(detections)
    boxes = np.array([detection.box for detection in detections], np.float32)
    scores = np.array([detection.score for detection in detections], np.float32)
    return [detections[index] for index in _kept(boxes, scores).tolist()]


def _kept(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.int_]:
    """Indices of the boxes [n, 4] that remain after suppression, best first."""
    # Without `top_k`, which limits the candidates before the suppression: a face has several.
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.0, NMS_THRESHOLD)
    best_first = np.ravel(np.asarray(kept, int))[:MAX_FACES]
    if len(best_first) < 2:
        return best_first
    return np.asarray(best_first[~_contained(boxes[best_first])], np.int_)


def _contained(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each box [n, 4] contains an earlier one that is kept, or lies within it: bool [n]."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    shared = np.minimum(high[:, np.newaxis], high) - np.maximum(low[:, np.newaxis], low)
    areas = boxes[:, 2:].prod(axis=1)
    smaller = np.minimum(areas[:, np.newaxis], areas)
    is_nested = shared.clip(0).prod(axis=2) >= MAX_CONTAINMENT * smaller
    dropped = np.zeros(len(boxes), np.bool_)
    for index in range(1, len(boxes)):
        dropped[index] = (is_nested[index, :index] & ~dropped[:index]).any()
    return dropped


@lru_cache(maxsize=4)
def _cells(sizes: Sequence[tuple[int, int]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres [n, 2] and strides [n, 1] of all cells of maps of these sizes, map by map."""
    levels = list(zip(sizes, STRIDES, strict=True))
    centres = [cell_centres(*size, stride).reshape(-1, 2) for size, stride in levels]
    strides = [np.full((rows * columns, 1), stride) for (rows, columns), stride in levels]
    return np.concatenate(centres), np.concatenate(strides, dtype=np.float32)
