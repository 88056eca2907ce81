"""From the maps that the bundled detector's network gives to faces; the trainer decodes by it too.

The network is free of anchors (Tian et al. 2019, FCOS): each cell of each map says whether a face
has its middle here, and where its box and landmarks are, in strides from the cell.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import Box, Detection

STRIDES: Final = (8, 16, 32)
"""Pixels a cell of each map, the finest first. Sides of pictures are multiples of the last."""
GEOMETRY: Final = 14
"""Channels of a map of places: the box's middle (x, y) from the cell's, both in strides; the
logarithms of its width and height in strides; five landmarks (x, y), as the middle."""

NMS_THRESHOLD: Final = 0.3
MOST_FACES: Final = 100

Maps = Sequence[NDArray[np.float32]]


def cell_centres(rows: int, columns: int, stride: int) -> NDArray[np.float32]:
    """The middles (x, y) of a map's cells in pixels, float32 [rows, columns, 2]."""
    y, x = np.mgrid[:rows, :columns]
    return ((np.stack([x, y], axis=-1) + 0.5) * stride).astype(np.float32)


def decode(scores: Maps, geometry: Maps, least_score: float) -> list[Detection]:
    """The faces that the maps of one picture speak of, best first, in its pixels.

    Args:
        scores: float32 [h, w] logits, a map for each of `STRIDES`.
        geometry: float32 [h, w, GEOMETRY], likewise.
        least_score: of a face, 0 to 1.
    """
    logits = np.concatenate([map_.ravel() for map_ in scores])
    chosen = np.flatnonzero(logits >= _logit(least_score))
    if not len(chosen):
        return []
    certainty = 1 / (1 + np.exp(-logits[chosen]))
    told = np.concatenate([map_.reshape(-1, GEOMETRY // 2, 2) for map_ in geometry])[chosen]
    middles, strides = _cells(tuple(map_.shape for map_ in scores))
    boxes, landmarks = _places(told, middles[chosen], strides[chosen])
    kept = cv2.dnn.NMSBoxes(
        boxes.tolist(), certainty.tolist(), 0.0, NMS_THRESHOLD, top_k=MOST_FACES
    )
    return [
        Detection(Box(*boxes[index].tolist()), float(certainty[index]), landmarks[index])
        for index in np.ravel(np.asarray(kept, int)).tolist()
    ]


@lru_cache(maxsize=4)
def _cells(sizes: Sequence[tuple[int, int]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Middles [n, 2] and strides [n, 1] of all cells of maps of these sizes, one after another."""
    levels = list(zip(sizes, STRIDES, strict=True))
    middles = [cell_centres(*size, stride).reshape(-1, 2) for size, stride in levels]
    strides = [np.full((rows * columns, 1), stride) for (rows, columns), stride in levels]
    return np.concatenate(middles), np.concatenate(strides, dtype=np.float32)


def _places(
    told: NDArray[np.float32], middles: NDArray[np.float32], strides: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes [n, 4] and landmarks [n, 5, 2] by what cells tell, [n, 7, 2]."""
    sides = strides * np.exp(told[:, 1])
    points = middles[:, np.newaxis] + strides[:, np.newaxis] * told
    return np.concatenate([points[:, 0] - sides / 2, sides], axis=1), points[:, 2:]


def _logit(score: float) -> float:
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else math.log(score / (1 - score))
