"""From the maps that the bundled detector's network gives to faces; the trainer decodes by it too.

The network is free of anchors (Tian et al. 2019, FCOS): each cell of each map says whether a face
has its middle here, and where its box and landmarks are, in strides from the cell.
"""

import math
from collections.abc import Sequence
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
    least_logit = _logit(least_score)
    found = [
        _candidates(logits, places, stride, chosen)
        for logits, places, stride in zip(scores, geometry, STRIDES, strict=True)
        if (chosen := logits >= least_logit).any()
    ]
    if not found:
        return []
    logits, boxes, landmarks = (np.concatenate(parts) for parts in zip(*found, strict=True))
    certainty = 1 / (1 + np.exp(-logits))
    kept = cv2.dnn.NMSBoxes(
        boxes.tolist(), certainty.tolist(), 0.0, NMS_THRESHOLD, top_k=MOST_FACES
    )
    return [
        Detection(Box(*map(float, boxes[index])), float(certainty[index]), landmarks[index])
        for index in np.ravel(np.asarray(kept, int))
    ]


def _candidates(
    logits: NDArray[np.float32],
    places: NDArray[np.float32],
    stride: int,
    chosen: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Logits [n], boxes [n, 4] and landmarks [n, 5, 2] of the n cells that are chosen."""
    # Their middles, as of `cell_centres`, which would take as long as all the rest.
    centres = (np.argwhere(chosen)[:, ::-1].astype(np.float32) + 0.5) * stride
    told = places[chosen]
    middles = centres + stride * told[:, :2]
    sides = stride * np.exp(told[:, 2:4])
    landmarks = centres[:, np.newaxis] + stride * told[:, 4:].reshape(-1, 5, 2)
    return logits[chosen], np.concatenate([middles - sides / 2, sides], axis=1), landmarks


def _logit(score: float) -> float:
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else math.log(score / (1 - score))
