import math

import numpy as np
import pytest

from edge_daemon.detection.decoding import GEOMETRY, STRIDES, cell_centres, decode

ROWS, COLUMNS = 6, 10
"""Of the map of stride 32, for a picture of 320x192."""


def empty_maps() -> tuple[list[np.ndarray], list[np.ndarray]]:
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
    """A face a quarter of a cell right of a cell's centre, its landmarks at the cell's centre."""
    scores, geometry = maps
    scores[level][cell] = math.log(score / (1 - score))
    stride = STRIDES[level]
    values = geometry[level][cell]
    values[:2] = 0.25, 0
    values[2:4] = np.log(np.array(sides) / stride)


def test_decode_without_scores_finds_nothing() -> None:
    assert decode(*empty_maps(), 0.5) == []


@pytest.mark.parametrize("level", range(len(STRIDES)))
def test_decode_places_a_face_relative_to_its_cell(level: int) -> None:
    maps, stride = empty_maps(), STRIDES[level]
    place(maps, level, (2, 3), (40, 50), 0.8)
    (found,) = decode(*maps, 0.5)
    assert found.box.centre == pytest.approx((3.75 * stride, 2.5 * stride))
    assert (found.box.width, found.box.height) == pytest.approx((40, 50))
    assert found.score == pytest.approx(0.8)
    assert found.landmarks is not None
    assert (found.landmarks.shape, found.landmarks.dtype) == ((5, 2), np.float32)
    np.testing.assert_allclose(found.landmarks, np.tile([3.5 * stride, 2.5 * stride], (5, 1)))


def test_decode_of_overlapping_boxes_keeps_the_best() -> None:
    maps = empty_maps()
    place(maps, 1, (4, 5), (60, 60), 0.9)
    place(maps, 1, (4, 6), (60, 60), 0.8)
    place(maps, 0, (9, 10), (58, 62), 0.7)
    (found,) = decode(*maps, 0.5)
    assert found.score == pytest.approx(0.9)


@pytest.mark.parametrize(("outer", "inner"), [(0.9, 0.8), (0.8, 0.9)])
def test_decode_of_nested_boxes_keeps_the_best(outer: float, inner: float) -> None:
    maps = empty_maps()
    place(maps, 1, (5, 8), (80, 90), outer)
    place(maps, 0, (10, 17), (24, 28), inner)
    (found,) = decode(*maps, 0.5)
    assert found.score == pytest.approx(0.9)


def test_decode_of_a_box_nested_only_in_a_dropped_one_keeps_it() -> None:
    """The smallest box lies only in the dropped one."""
    maps = empty_maps()
    place(maps, 2, (2, 2), (70, 70), 0.9)
    place(maps, 1, (4, 6), (40, 30), 0.8)
    place(maps, 0, (8, 15), (9, 9), 0.7)
    scores = [round(found.score, 1) for found in decode(*maps, 0.5)]
    assert scores == [0.9, 0.7]


def test_decode_of_partly_overlapping_faces_keeps_both() -> None:
    maps = empty_maps()
    place(maps, 2, (2, 3), (80, 90), 0.9)
    place(maps, 0, (9, 19), (20, 24), 0.8)
    assert len(decode(*maps, 0.5)) == 2


def test_decode_of_separate_faces_keeps_all_best_first() -> None:
    maps = empty_maps()
    place(maps, 0, (3, 3), (16, 20), 0.6)
    place(maps, 2, (3, 7), (90, 100), 0.95)
    assert [round(found.score, 2) for found in decode(*maps, 0.5)] == [0.95, 0.6]


def test_decode_of_a_crowd_keeps_each_face_once() -> None:
    """Each of 28 faces has four cells, together more than the limit of the faces."""
    maps = empty_maps()
    scores = [0.95 - 0.01 * face for face in range(28)]
    for face, score in enumerate(scores):
        for row, column in np.ndindex(2, 2):
            place(maps, 0, (face // 7 * 5 + row, face % 7 * 5 + column), (28, 28), score)
    assert [found.score for found in decode(*maps, 0.5)] == pytest.approx(scores)


def test_decode_respects_min_score() -> None:
    maps = empty_maps()
    place(maps, 0, (3, 3), (16, 20), 0.6)
    assert decode(*maps, 0.61) == []
    assert len(decode(*maps, 0.59)) == 1
    assert decode(*maps, 1.0) == []
    # At 0 every cell is a candidate; the number of faces is limited.
    assert len(decode(*maps, 0.0)) <= 100


def test_cell_centres_are_half_a_stride_from_the_edge() -> None:
    centres = cell_centres(2, 3, 8)
    assert centres.shape == (2, 3, 2)
    assert centres[1, 2].tolist() == [20, 12]
