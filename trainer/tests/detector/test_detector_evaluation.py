from dataclasses import replace

import numpy as np
import pytest
from detector.material import faces_at, landmarks_in

from edge_daemon.records import Box, Detection
from emotion_trainer.detector.evaluation import average_precision, match_images
from emotion_trainer.detector.faces import concatenate_faces

A, B = (10.0, 10.0, 20.0, 20.0), (60.0, 60.0, 40.0, 40.0)
FAR = (120.0, 0.0, 20.0, 20.0)


def detected(score: float, box: tuple[float, float, float, float]) -> Detection:
    return Detection(Box(*box), score, landmarks_in(box))


def test_average_precision_of_perfect_detections_is_one() -> None:
    matches = match_images([[detected(0.9, A), detected(0.8, B)]], [faces_at(A, B)])
    assert average_precision(matches) == pytest.approx(1.0)
    np.testing.assert_allclose(matches.landmark_errors, 0, atol=1e-6)


def test_average_precision_equals_hand_calculation() -> None:
    # Right, wrong, right; a third face is missed. Precision is 1 to recall 1/3, then 2/3 to 2/3.
    found = [[detected(0.9, A), detected(0.8, FAR), detected(0.7, B)], []]
    matches = match_images(found, [faces_at(A, B), faces_at(A)])
    assert average_precision(matches) == pytest.approx(1 / 3 + 2 / 3 * 1 / 3)
    np.testing.assert_allclose(matches.found, [0.9, 0.7, 0.0], rtol=1e-6)


def test_match_images_second_detection_of_a_face_is_wrong() -> None:
    matches = match_images([[detected(0.9, A), detected(0.8, A)]], [faces_at(A)])
    assert matches.right.tolist() == [True, False]


def test_match_images_doubtful_face_does_not_count() -> None:
    plain = faces_at(A, B)
    truth = replace(plain, doubtful=np.array([True, False]))
    matches = match_images([[detected(0.9, A), detected(0.8, B)]], [truth])
    assert matches.right.tolist() == [True]
    assert len(matches.truth) == len(matches.found) == 1


def test_match_images_empty_images_have_no_precision() -> None:
    matches = match_images([[], [detected(0.5, A)]], [faces_at(A), concatenate_faces([])])
    assert average_precision(matches) == 0.0
    assert matches.right.tolist() == [False]
    assert np.isnan(matches.landmark_errors).all()


def test_match_images_iou_and_landmarks_are_of_the_matched_face() -> None:
    x, y, w, h = A
    matches = match_images([[detected(0.9, (x, y, w, 0.8 * h))]], [faces_at(A, B)])
    assert matches.ious[0] == pytest.approx(0.8)
    assert np.isnan(matches.ious[1])
    assert 0 < matches.landmark_errors[0] < 0.2


def test_match_images_with_a_lower_iou_matches_inexact_boxes() -> None:
    x, y, w, h = A
    inexact = [[detected(0.9, (x, y, w, 0.45 * h))]]
    assert match_images(inexact, [faces_at(A)]).right.tolist() == [False]
    assert match_images(inexact, [faces_at(A)], 0.4).right.tolist() == [True]
