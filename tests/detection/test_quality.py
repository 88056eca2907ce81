import cv2
import numpy as np
import pytest
from drawing import draw_face

from edge_daemon.config.settings import QualitySettings
from edge_daemon.detection.step import sharpness, unscored_reason, yaw
from edge_daemon.records import Landmarks, Unscored

LIMITS = QualitySettings(min_face=20, min_sharpness=0.005, max_yaw=0.6)


def landmarks(nose_x: float, tilt: float = 0.0) -> Landmarks:
    points = np.array([[30, 40], [70, 40], [nose_x, 60], [35, 80], [65, 80]], np.float32)
    turned = cv2.transform(points[None], cv2.getRotationMatrix2D((50, 50), tilt, 2.0))[0]
    return np.asarray(turned, np.float32)


def test_judge_of_a_good_face_has_no_reason() -> None:
    assert unscored_reason(60, draw_face(48), landmarks(50), LIMITS) is None
    assert unscored_reason(60, draw_face(48), None, LIMITS) is None


def test_judge_of_each_flaw_has_its_own_reason() -> None:
    blurred = np.asarray(cv2.GaussianBlur(draw_face(48), (0, 0), 6), np.uint8)
    assert unscored_reason(19, draw_face(48), landmarks(50), LIMITS) is Unscored.TOO_SMALL
    assert unscored_reason(60, blurred, landmarks(50), LIMITS) is Unscored.TOO_BLURRED
    assert unscored_reason(60, draw_face(48), landmarks(80), LIMITS) is Unscored.PROFILE


@pytest.mark.parametrize(("nose_x", "expected"), [(50, 0.0), (60, 0.25), (30, 0.5), (80, 0.75)])
@pytest.mark.parametrize("tilt", [-20, 0, 35])
def test_yaw_is_in_eye_distances_at_any_roll(nose_x: float, expected: float, tilt: float) -> None:
    assert yaw(landmarks(nose_x, tilt)) == pytest.approx(expected, abs=1e-4)


def test_yaw_with_coinciding_eyes_is_infinite() -> None:
    assert yaw(np.zeros((5, 2), np.float32)) == float("inf")


def test_sharpness_depends_on_blur_not_on_light() -> None:
    face = draw_face(48)
    dim = (face // 3 + 10).astype(np.uint8)
    blurs = [sharpness(np.asarray(cv2.GaussianBlur(face, (0, 0), s), np.uint8)) for s in (1, 2, 4)]
    assert sharpness(face) > blurs[0] > blurs[1] > blurs[2]
    assert sharpness(dim) == pytest.approx(sharpness(face), rel=0.15)


def test_judge_of_a_black_crop_is_blurred() -> None:
    assert unscored_reason(60, np.zeros((48, 48), np.uint8), None, LIMITS) is Unscored.TOO_BLURRED
