import numpy as np
import pytest
from detector.material import faces_at

from emotion_trainer.detector.faces import concatenate_faces
from emotion_trainer.detector.pasting import placement

BOX = (40.0, 20.0, 30.0, 40.0)


def test_faces_moved_follow_the_transform() -> None:
    moved = faces_at(BOX).moved(placement((55, 40), 2.0, 0.0, (100, 100)))
    np.testing.assert_allclose(moved.boxes[0], [70, 60, 60, 80], atol=1e-4)
    np.testing.assert_allclose(moved.landmarks[0, 2], [100, 108], atol=1e-4)


def test_faces_rotated_keep_their_sides() -> None:
    turned = faces_at(BOX).moved(placement((55, 40), 1.0, 90.0, (55, 40)))
    np.testing.assert_allclose(turned.boxes[0], BOX, atol=1e-4)
    # Counter-clockwise by a quarter: the right eye, left in the image, goes to the bottom.
    right_eye, left_eye = turned.landmarks[0, :2]
    assert right_eye[1] > left_eye[1]
    assert right_eye[0] == pytest.approx(left_eye[0], abs=1e-4)


def test_faces_mirrored_swap_left_and_right_landmarks() -> None:
    mirrored = faces_at(BOX).mirrored(200)
    np.testing.assert_allclose(mirrored.boxes[0], [130, 20, 30, 40])
    right_eye, left_eye = mirrored.landmarks[0, :2]
    assert right_eye[0] < left_eye[0]
    np.testing.assert_allclose(mirrored.mirrored(200).landmarks, faces_at(BOX).landmarks)


def test_together_of_nothing_has_no_faces() -> None:
    assert len(concatenate_faces([])) == 0
    assert concatenate_faces([]).landmarks.shape == (0, 5, 2)
