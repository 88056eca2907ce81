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

Cells = NDArray[np.intp]
"""Which of a map's, counted row by row."""


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
    cells = [np.flatnonzero(logits >= least_logit) for logits in scores]
    if not any(map(len, cells)):
        return []
    certainty = 1 / (1 + np.exp(-_taken(scores, cells, ())))
    told = _taken(geometry, cells, (GEOMETRY // 2, 2))
    boxes, landmarks = _places(told, *_middles(scores, cells))
    kept = cv2.dnn.NMSBoxes(
        boxes.tolist(), certainty.tolist(), 0.0, NMS_THRESHOLD, top_k=MOST_FACES
    )
    return [
        Detection(Box(*boxes[index].tolist()), float(certainty[index]), landmarks[index])
        for index in np.ravel(np.asarray(kept, int))
    ]


def _taken(maps: Maps, cells: Sequence[Cells], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """What the maps tell in all of these cells together, float32 [n, *shape]."""
    return np.concatenate(
        [map_.reshape(-1, *shape)[chosen] for map_, chosen in zip(maps, cells, strict=True)]
    )


def _middles(maps: Maps, cells: Sequence[Cells]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Middles of all of these cells, as of `cell_centres` (x, y), [n, 2], and strides, [n, 1]."""
    counts = list(map(len, cells))
    strides = np.repeat(np.array(STRIDES, np.float32), counts)[:, np.newaxis]
    columns = np.repeat([map_.shape[1] for map_ in maps], counts)
    rows_and_columns = np.divmod(np.concatenate(cells), columns)
    return (np.stack(rows_and_columns[::-1], axis=1, dtype=np.float32) + 0.5) * strides, strides


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
