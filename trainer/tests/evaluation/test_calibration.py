import numpy as np
import pytest

from emotion_trainer.evaluation.calibration import calibration_error, reliability


def test_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.full((10, 7), 0.2 / 6, np.float32)
    probabilities[:, 3] = 0.8
    labels = np.array([3] * 5 + [1] * 5)
    assert calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_certainty_has_a_bin() -> None:
    probabilities, labels = np.eye(7, dtype=np.float32), np.arange(7)
    assert calibration_error(probabilities, labels) == 0.0
    bins = reliability(probabilities, labels)
    assert (bins.share[-1], bins.confidence[-1], bins.accuracy[-1]) == (1.0, 1.0, 1.0)


def test_reliability_empty_bin_is_zero() -> None:
    bins = reliability(np.full((2, 7), 1 / 7, np.float32), np.array([0, 1]))
    assert np.flatnonzero(bins.share).tolist() == [2]
    assert bins.confidence[2] == pytest.approx(1 / 7)
    assert bins.accuracy[2] == 0.5
    assert not bins.confidence[3:].any()
