import math

import numpy as np
import pytest

from edge_daemon.detection.decoding import GEOMETRY, STRIDES, cell_centres, decode

ROWS, COLUMNS = 6, 10
"""Of the map of stride 32: a picture of 320x192."""


def silent_maps() -> tuple[list[np.ndarray], list[np.ndarray]]:
    sizes = [(ROWS * 32 // stride, COLUMNS * 32 // stride) for stride in STRIDES]
    scores = [np.full(size, -12, np.float32) for size in sizes]
    return scores, [np.zeros((*size, GEOMETRY), np.float32) for size in sizes]


def place(
    maps: tuple[list[np.ndarray], list[np.ndarray]],
    level: int,
    cell: tuple[int, int],
    sides: tuple[float, float],
    score: float,
) -> None:
    """A face a quarter of a cell right of a cell's middle, its landmarks where the middle is."""
    scores, geometry = maps
    scores[level][cell] = math.log(score / (1 - score))
    stride = STRIDES[level]
    told = geometry[level][cell]
    told[:2] = 0.25, 0
    told[2:4] = np.log(np.array(sides) / stride)


def test_silence_is_no_face() -> None:
    assert decode(*silent_maps(), 0.5) == []


@pytest.mark.parametrize("level", range(len(STRIDES)))
def test_a_face_is_where_its_cell_says(level: int) -> None:
    maps, stride = silent_maps(), STRIDES[level]
    place(maps, level, (2, 3), (40, 50), 0.8)
    (found,) = decode(*maps, 0.5)
    assert found.box.centre == pytest.approx((3.75 * stride, 2.5 * stride))
    assert (found.box.width, found.box.height) == pytest.approx((40, 50))
    assert found.score == pytest.approx(0.8)
    assert found.landmarks is not None
    assert (found.landmarks.shape, found.landmarks.dtype) == ((5, 2), np.float32)
    np.testing.assert_allclose(found.landmarks, np.tile([3.5 * stride, 2.5 * stride], (5, 1)))


def test_one_face_told_by_several_cells_is_one() -> None:
    maps = silent_maps()
    place(maps, 1, (4, 5), (60, 60), 0.9)
    place(maps, 1, (4, 6), (60, 60), 0.8)
    place(maps, 0, (9, 10), (58, 62), 0.7)
    (found,) = decode(*maps, 0.5)
    assert found.score == pytest.approx(0.9)


def test_faces_apart_are_all_found_the_surest_first() -> None:
    maps = silent_maps()
    place(maps, 0, (3, 3), (16, 20), 0.6)
    place(maps, 2, (3, 7), (90, 100), 0.95)
    assert [round(found.score, 2) for found in decode(*maps, 0.5)] == [0.95, 0.6]


def test_the_least_score_is_kept_to() -> None:
    maps = silent_maps()
    place(maps, 0, (3, 3), (16, 20), 0.6)
    assert decode(*maps, 0.61) == []
    assert len(decode(*maps, 0.59)) == 1
    assert decode(*maps, 1.0) == []
    # At 0 everything is a candidate, and the number of faces has an end.
    assert len(decode(*maps, 0.0)) <= 100


def test_cells_have_their_middles_half_a_stride_in() -> None:
    centres = cell_centres(2, 3, 8)
    assert centres.shape == (2, 3, 2)
    assert centres[1, 2].tolist() == [20, 12]
