import numpy as np
import pytest
from detector.material import faces_at

from edge_daemon.detection.decoding import STRIDES, decode
from emotion_trainer.detector.assignment import (
    GEOMETRY_COLUMNS,
    LANDMARKS_KNOWN,
    SCORE,
    WEIGHT,
    targets_of,
)
from emotion_trainer.detector.faces import Faces, faces_from, together

SIDE = 160
SURE = 8.0


def decoded(targets: np.ndarray) -> list:
    """What the daemon would find, were the network to say just what it is to."""
    scores, geometry = [], []
    for stride in STRIDES:
        cells = SIDE // stride
        level, targets = targets[: cells**2], targets[cells**2 :]
        scores.append(SURE * (2 * level[:, SCORE].reshape(cells, cells) - 1))
        geometry.append(level[:, GEOMETRY_COLUMNS].reshape(cells, cells, -1))
    return decode(scores, geometry, 0.5)


@pytest.mark.parametrize("side", [9, 16, 30, 33, 60, 76, 110, 150])
def test_the_daemon_reads_the_targets_as_the_faces_they_were_made_of(side: float) -> None:
    faces = faces_at((SIDE / 2 - side / 2, 70 - side / 2, side, side))
    (found,) = decoded(targets_of(faces, SIDE))
    np.testing.assert_allclose(found.box, faces.boxes[0], atol=1e-3)
    np.testing.assert_allclose(found.landmarks, faces.landmarks[0], atol=1e-3)


def test_several_faces_are_told_apart() -> None:
    faces = faces_at((10, 10, 12, 14), (60, 20, 40, 50), (40, 80, 70, 78), (28, 12, 13, 13))
    found = decoded(targets_of(faces, SIDE))
    boxes = sorted(tuple(detection.box) for detection in found)
    np.testing.assert_allclose(boxes, sorted(map(tuple, faces.boxes)), atol=1e-3)


def test_no_face_is_nothing_everywhere() -> None:
    targets = targets_of(together([]), SIDE)
    assert targets.shape[0] == sum((SIDE // stride) ** 2 for stride in STRIDES)
    assert (targets[:, WEIGHT] == 1).all()
    assert (targets[:, SCORE] == 0).all()


def test_doubtful_faces_are_neither_asked_for_nor_blamed() -> None:
    plain = faces_at((40, 40, 40, 40))
    doubtful = Faces(plain.boxes, plain.landmarks, np.array([True]), plain.covered, plain.tilt)
    targets = targets_of(doubtful, SIDE)
    assert (targets[:, SCORE] == 0).all()
    middle = (7 * (SIDE // 8)) + 7
    assert targets[middle, WEIGHT] == 0
    assert targets[0, WEIGHT] == 1


def test_unknown_landmarks_are_not_taught() -> None:
    targets = targets_of(faces_from(np.array([[40, 40, 40, 40]], np.float32)), SIDE)
    assert (targets[targets[:, SCORE] == 1, LANDMARKS_KNOWN] == 0).all()
    assert np.isfinite(targets).all()


def test_a_face_beyond_the_edge_is_no_cells() -> None:
    assert (targets_of(faces_at((-60, 40, 30, 30)), SIDE)[:, SCORE] == 0).all()
