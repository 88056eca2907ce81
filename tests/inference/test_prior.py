import numpy as np
import pytest
from builders import face, frame

from edge_daemon import EmotionEnsemble
from edge_daemon.config.settings import CAMERA_SHARES
from edge_daemon.inference.bundle import FER2013_SHARES
from edge_daemon.inference.step import EmotionRecognizer, PriorCorrection
from edge_daemon.records import EMOTIONS, TrackedFace, TrackedFaces

EVEN = dict.fromkeys(EMOTIONS, 1 / 7)


def test_shares_of_data_and_camera_sum_to_one() -> None:
    for shares in (FER2013_SHARES, CAMERA_SHARES):
        assert tuple(shares) == EMOTIONS
        assert sum(shares.values()) == pytest.approx(1.0, abs=2e-4)


def test_prior_correction_gives_the_new_posterior() -> None:
    """Bayes' rule with known likelihoods: the correction needs the old posterior alone."""
    rng = np.random.default_rng(3)
    likelihoods = rng.dirichlet(np.ones(20), 7).T
    posteriors = []
    for shares in (FER2013_SHARES, CAMERA_SHARES):
        joint = likelihoods * list(shares.values())
        posteriors.append((joint / joint.sum(axis=1, keepdims=True)).astype(np.float32))
    corrected = PriorCorrection(CAMERA_SHARES, FER2013_SHARES)(posteriors[0])
    np.testing.assert_allclose(corrected, posteriors[1], rtol=1e-4)
    assert corrected.dtype == np.float32


def test_prior_correction_same_shares_changes_nothing() -> None:
    rows = np.random.default_rng(3).dirichlet(np.ones(7), 20).astype(np.float32)
    same = PriorCorrection(FER2013_SHARES, FER2013_SHARES)
    np.testing.assert_allclose(same(rows), rows, atol=1e-6)


def test_prior_correction_emotion_without_data_stays_finite() -> None:
    rows = np.full((1, 7), 1 / 7, np.float32)
    without = {**EVEN, "disgust": 0.0}
    corrected = PriorCorrection(EVEN, without)(rows)
    assert np.isfinite(corrected).all()
    assert corrected.sum() == pytest.approx(1.0)


def test_recognizer_prior_corrects_the_probabilities() -> None:
    ensemble = EmotionEnsemble.load()
    tracked = TrackedFaces(frame(), (TrackedFace(1, face()),), frozenset({1}))
    prior = PriorCorrection({**EVEN, "neutral": 0.9}, EVEN)
    before = EmotionRecognizer(ensemble)(tracked).faces[0]
    after = EmotionRecognizer(ensemble, prior=prior)(tracked).faces[0]
    assert before.raw is not None
    np.testing.assert_allclose(after.raw, prior(before.raw[np.newaxis])[0], atol=1e-6)
    np.testing.assert_array_equal(after.probabilities, after.raw)
