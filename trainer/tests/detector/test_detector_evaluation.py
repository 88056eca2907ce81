import numpy as np
import pytest
from detector.material import faces_at, landmarks_in

from edge_daemon.records import Box, Detection
from emotion_trainer.detector.evaluation import average_precision, judge_pictures, overlap
from emotion_trainer.detector.faces import Faces, together

A, B = (10.0, 10.0, 20.0, 20.0), (60.0, 60.0, 40.0, 40.0)
FAR = (120.0, 0.0, 20.0, 20.0)


def detected(score: float, box: tuple[float, float, float, float]) -> Detection:
    return Detection(Box(*box), score, landmarks_in(box))


def test_overlap_is_intersection_over_union() -> None:
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 5, 5]], np.float32)
    np.testing.assert_allclose(overlap(boxes, others), [[1, 1 / 3, 0]], rtol=1e-6)


def test_all_found_and_nothing_else_is_a_precision_of_one() -> None:
    judged = judge_pictures([[detected(0.9, A), detected(0.8, B)]], [faces_at(A, B)])
    assert average_precision(judged) == pytest.approx(1.0)
    np.testing.assert_allclose(judged.landmark_errors, 0, atol=1e-6)


def test_average_precision_of_a_case_worked_by_hand() -> None:
    # Best first: right, wrong, right; a third face is missed. Precision 1 up to a recall of 1/3,
    # 2/3 up to 2/3.
    found = [[detected(0.9, A), detected(0.8, FAR), detected(0.7, B)], []]
    judged = judge_pictures(found, [faces_at(A, B), faces_at(A)])
    assert average_precision(judged) == pytest.approx(1 / 3 + 2 / 3 * 1 / 3)
    np.testing.assert_allclose(judged.found, [0.9, 0.7, 0.0], rtol=1e-6)


def test_the_second_find_of_a_face_is_wrong() -> None:
    judged = judge_pictures([[detected(0.9, A), detected(0.8, A)]], [faces_at(A)])
    assert judged.right.tolist() == [True, False]


def test_a_doubtful_face_counts_neither_way() -> None:
    plain = faces_at(A, B)
    truth = Faces(plain.boxes, plain.landmarks, np.array([True, False]), plain.covered, plain.tilt)
    judged = judge_pictures([[detected(0.9, A), detected(0.8, B)]], [truth])
    assert judged.right.tolist() == [True]
    assert len(judged.truth) == len(judged.found) == 1


def test_nothing_found_and_nothing_there() -> None:
    judged = judge_pictures([[], [detected(0.5, A)]], [faces_at(A), together([])])
    assert average_precision(judged) == 0.0
    assert judged.right.tolist() == [False]
    assert np.isnan(judged.landmark_errors).all()
