from dataclasses import replace

import numpy as np
import pytest
from detector.material import faces_at, landmarks_in

from edge_daemon.records import Box, Detection
from emotion_trainer.detector.evaluation import average_precision, judge_images
from emotion_trainer.detector.faces import together

A, B = (10.0, 10.0, 20.0, 20.0), (60.0, 60.0, 40.0, 40.0)
FAR = (120.0, 0.0, 20.0, 20.0)


def detected(score: float, box: tuple[float, float, float, float]) -> Detection:
    return Detection(Box(*box), score, landmarks_in(box))


def test_average_precision_of_perfect_detections_is_one() -> None:
    judged = judge_images([[detected(0.9, A), detected(0.8, B)]], [faces_at(A, B)])
    assert average_precision(judged) == pytest.approx(1.0)
    np.testing.assert_allclose(judged.landmark_errors, 0, atol=1e-6)


def test_average_precision_equals_hand_calculation() -> None:
    # Right, wrong, right; a third face is missed. Precision is 1 to recall 1/3, then 2/3 to 2/3.
    found = [[detected(0.9, A), detected(0.8, FAR), detected(0.7, B)], []]
    judged = judge_images(found, [faces_at(A, B), faces_at(A)])
    assert average_precision(judged) == pytest.approx(1 / 3 + 2 / 3 * 1 / 3)
    np.testing.assert_allclose(judged.found, [0.9, 0.7, 0.0], rtol=1e-6)


def test_judged_second_detection_of_a_face_is_wrong() -> None:
    judged = judge_images([[detected(0.9, A), detected(0.8, A)]], [faces_at(A)])
    assert judged.right.tolist() == [True, False]


def test_judged_detection_of_a_doubtful_face_does_not_count() -> None:
    plain = faces_at(A, B)
    truth = replace(plain, doubtful=np.array([True, False]))
    judged = judge_images([[detected(0.9, A), detected(0.8, B)]], [truth])
    assert judged.right.tolist() == [True]
    assert len(judged.truth) == len(judged.found) == 1


def test_judged_empty_images_have_no_precision() -> None:
    judged = judge_images([[], [detected(0.5, A)]], [faces_at(A), together([])])
    assert average_precision(judged) == 0.0
    assert judged.right.tolist() == [False]
    assert np.isnan(judged.landmark_errors).all()


def test_judged_iou_and_landmarks_are_of_the_matched_face() -> None:
    x, y, w, h = A
    judged = judge_images([[detected(0.9, (x, y, w, 0.8 * h))]], [faces_at(A, B)])
    assert judged.ious[0] == pytest.approx(0.8)
    assert np.isnan(judged.ious[1])
    assert 0 < judged.landmark_errors[0] < 0.2


def test_judged_with_a_lower_iou_matches_inexact_boxes() -> None:
    x, y, w, h = A
    inexact = [[detected(0.9, (x, y, w, 0.45 * h))]]
    assert judge_images(inexact, [faces_at(A)]).right.tolist() == [False]
    assert judge_images(inexact, [faces_at(A)], 0.4).right.tolist() == [True]
