import numpy as np
import pytest

from emotion_trainer.calibration import calibration_error


def test_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.full((10, 7), 0.2 / 6, np.float32)
    probabilities[:, 3] = 0.8
    labels = np.array([3] * 5 + [1] * 5)
    assert calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_certainty_has_a_bin() -> None:
    assert calibration_error(np.eye(7, dtype=np.float32), np.arange(7)) == 0.0
