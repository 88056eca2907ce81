"""Which cells are to find which face, and what they are to say of it.

A face belongs to the maps whose cells suit its size, and there to the cells in its middle. What
is close to that is neither asked for nor blamed.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.detection.decoding import GEOMETRY, STRIDES, cell_centres
from emotion_trainer.detector.faces import LANDMARKS as LANDMARK_COUNT
from emotion_trainer.detector.faces import Faces, Floats

SIZES: Final = ((0.0, 36.0), (28.0, 84.0), (68.0, np.inf))
"""Of the faces that each map is to find, as roots of their areas in pixels."""
NEARLY: Final = 1.25
"""A face whose size misses a map's range by this factor is nothing to blame it for."""
MIDDLE: Final = 0.18
SURROUNDINGS: Final = 0.35
"""Distances from a face's middle as parts of its sides: up to the first it is asked for, up to
the second it does not matter."""
EDGE: Final = 0.5
"""Where the box ends."""

SCORE: Final = 0
WEIGHT: Final = 1
BOX: Final = slice(2, 6)
LANDMARKS: Final = slice(6, 2 + GEOMETRY)
GEOMETRY_COLUMNS: Final = slice(2, 2 + GEOMETRY)
LANDMARKS_KNOWN: Final = 2 + GEOMETRY
COLUMNS: Final = 3 + GEOMETRY
"""The columns of a target: whether a face is here, how much that counts, the face's geometry as
the network is to give it, and whether its landmarks are known."""


def targets_of(faces: Faces, side: int) -> Floats:
    """The targets of all cells of a square picture, float32 [cells, COLUMNS]."""
    maps = [_map_targets(faces, side, *level) for level in zip(STRIDES, SIZES, strict=True)]
    return np.concatenate(maps)


def _map_targets(faces: Faces, side: int, stride: int, sizes: tuple[float, float]) -> Floats:
    count = side // stride
    centres = cell_centres(count, count, stride).reshape(-1, 1, 2)
    targets = np.zeros((len(centres), COLUMNS), np.float32)
    targets[:, WEIGHT] = 1.0
    if not len(faces):
        return targets
    boxes = faces.boxes
    offsets = boxes[:, :2] + boxes[:, 2:] / 2 - centres
    distances = np.abs(offsets / boxes[:, 2:]).max(axis=-1)
    targets[:, WEIGHT] = ~_do_not_matter(faces, distances, sizes)
    wanted = _wanted(faces, distances, sizes)
    owner = np.where(wanted, distances, np.inf).argmin(axis=1)
    found = wanted.any(axis=1)
    geometry, known = _geometry(faces, owner[found], centres[found, 0], stride)
    targets[found, SCORE] = targets[found, WEIGHT] = 1.0
    targets[found, GEOMETRY_COLUMNS], targets[found, LANDMARKS_KNOWN] = geometry, known
    return targets


def _wanted(faces: Faces, distances: Floats, sizes: tuple[float, float]) -> NDArray[np.bool_]:
    """The middle of each face, at least the cell nearest to it: bool [cells, faces]."""
    fits = (faces.sizes >= sizes[0]) & (faces.sizes < sizes[1]) & ~faces.doubtful
    near = distances <= np.maximum(MIDDLE, distances.min(axis=0))
    # A face whose middle is beyond the edge has no cell there.
    return np.asarray(near & fits & (distances < EDGE), np.bool_)


def _do_not_matter(
    faces: Faces, distances: Floats, sizes: tuple[float, float]
) -> NDArray[np.bool_]:
    nearly = (faces.sizes >= sizes[0] / NEARLY) & (faces.sizes < sizes[1] * NEARLY)
    reach = np.where(faces.doubtful, EDGE, SURROUNDINGS)
    return np.asarray(((distances < reach) & (nearly | faces.doubtful)).any(axis=1), np.bool_)


def _geometry(
    faces: Faces, owners: NDArray[np.intp], centres: Floats, stride: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """What cells with these middles are to say of their faces, and whether all of it is known."""
    boxes, landmarks = faces.boxes[owners], faces.landmarks[owners]
    middles = boxes[:, :2] + boxes[:, 2:] / 2
    offsets, sides = (middles - centres) / stride, np.log(boxes[:, 2:] / stride)
    places = ((landmarks - centres[:, np.newaxis]) / stride).reshape(-1, 2 * LANDMARK_COUNT)
    geometry = np.concatenate([offsets, sides, places], axis=1)
    known: NDArray[np.bool_] = np.asarray(np.isfinite(places).all(axis=1), np.bool_)
    return np.nan_to_num(geometry), known
