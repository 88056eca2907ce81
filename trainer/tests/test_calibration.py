import numpy as np
import pytest

from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.calibration import calibration_error, fit_temperature


def test_finds_the_temperature_that_logits_were_divided_by() -> None:
    rng = np.random.default_rng(0)
    honest = log_softmax(rng.normal(0.0, 2.0, (4000, 7)).astype(np.float32))
    # The largest of log-probabilities plus Gumbel noise is a draw from them.
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    overconfident = log_softmax(honest * 2.5)
    assert fit_temperature(overconfident, labels) == pytest.approx(2.5, rel=0.1)


def test_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.full((10, 7), 0.2 / 6, np.float32)
    probabilities[:, 3] = 0.8
    labels = np.array([3] * 5 + [1] * 5)
    assert calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_certainty_has_a_bin() -> None:
    assert calibration_error(np.eye(7, dtype=np.float32), np.arange(7)) == 0.0
