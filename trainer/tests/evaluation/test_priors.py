import numpy as np
import pytest

from edge_daemon.config.settings import CAMERA_SHARES
from edge_daemon.records import EMOTIONS
from emotion_trainer.evaluation.priors import prior_effects

NEUTRAL = EMOTIONS.index("neutral")


def test_camera_prior_moves_doubtful_faces_to_neutral() -> None:
    labels = np.arange(70) % 7
    probabilities = np.full((70, 7), 0.05, np.float32)
    probabilities[np.arange(70), labels] = 0.4
    probabilities[:, NEUTRAL] += 0.3  # every face may be neutral
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    without, camera, _ = prior_effects(probabilities, labels)
    assert (without.prior, camera.prior) == ("none", "camera")
    assert without.accuracy == 1.0
    assert camera.accuracy < 0.5
    assert without.counts.tolist() == [10] * 7
    assert camera.counts[NEUTRAL] > 40


def test_camera_figures_weight_faces_to_the_camera_shares() -> None:
    labels = np.arange(70) % 7
    probabilities = np.eye(7, dtype=np.float32)[labels]
    probabilities[labels == NEUTRAL] = np.eye(7, dtype=np.float32)[0]  # all neutral faces are wrong
    without, _, _ = prior_effects(probabilities, labels)
    assert without.accuracy == pytest.approx(6 / 7)
    share = CAMERA_SHARES["neutral"] / sum(CAMERA_SHARES.values())
    assert without.camera_accuracy == pytest.approx(1 - share)
    assert without.camera_calibration_error == pytest.approx(share)


def test_prior_effects_accept_data_without_an_emotion() -> None:
    labels = np.array([0, 3, 3, 6])
    effects = prior_effects(np.eye(7, dtype=np.float32)[labels], labels)
    assert [effect.camera_accuracy for effect in effects] == [1.0, 1.0, 1.0]


def test_estimated_shares_cost_less_than_a_prior_that_is_wrong() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.full(7, 0.3), 2000).astype(np.float32)
    labels = np.array([rng.choice(7, p=row / row.sum()) for row in probabilities.astype(float)])
    without, camera, estimated = prior_effects(probabilities, labels)
    assert estimated.prior == "estimated"
    assert camera.accuracy < estimated.accuracy < without.accuracy
    assert estimated.counts[NEUTRAL] < camera.counts[NEUTRAL]
    assert estimated.camera_accuracy > without.camera_accuracy


def test_uncertain_faces_are_right_less_often() -> None:
    labels = np.arange(70) % 7
    probabilities = np.full((70, 7), 0.02, np.float32)
    probabilities[np.arange(70), labels] = 0.88
    probabilities[:7] = 1 / 7  # one face of each emotion
    without = prior_effects(probabilities, labels)[0]
    assert without.uncertain == pytest.approx(0.1)
    assert without.uncertain_accuracy == pytest.approx(CAMERA_SHARES["angry"])
    assert without.certain_accuracy == 1.0
    certain = prior_effects(np.eye(7, dtype=np.float32)[labels], labels)[0]
    assert (certain.uncertain, certain.uncertain_accuracy) == (0.0, 0.0)
