import dataclasses
import logging

import numpy as np
import pytest
from builders import face, frame
from numpy.typing import NDArray

from edge_daemon import EmotionEnsemble
from edge_daemon.config.settings import CAMERA_SHARES
from edge_daemon.inference.bundle import FER2013_SHARES
from edge_daemon.inference.step import EmotionRecognizer, EstimatedPrior, PriorCorrection
from edge_daemon.records import EMOTIONS, TrackedFace, TrackedFaces, Unscored

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


def seen_at(seconds: float, *track_ids: int) -> TrackedFaces:
    """Tracked faces of a frame at this stream time."""
    at = dataclasses.replace(frame(), stream_time_s=seconds)
    tracked = tuple(TrackedFace(track_id, face()) for track_id in track_ids)
    return TrackedFaces(at, tracked, frozenset(track_ids))


def watch(prior: EstimatedPrior, row: NDArray[np.float32], people: int, seconds: int) -> None:
    """Show people with these probabilities one after the other, in two frames a second."""
    for tick in range(2 * seconds * people):
        prior.observe(prior(row), seen_at(tick / 2, tick // (2 * seconds)))


def one_emotion(emotion: str, share: float = 0.94) -> NDArray[np.float32]:
    rows = np.full((1, 7), (1 - share) / 6, np.float32)
    rows[0, EMOTIONS.index(emotion)] = share
    return rows


def test_estimated_prior_starts_with_the_initial_shares() -> None:
    rows = np.random.default_rng(3).dirichlet(np.ones(7), 20).astype(np.float32)
    fixed = PriorCorrection(CAMERA_SHARES, FER2013_SHARES)
    estimated = EstimatedPrior(CAMERA_SHARES, FER2013_SHARES)
    np.testing.assert_array_equal(estimated(rows), fixed(rows))
    assert dict(zip(EMOTIONS, estimated.shares, strict=True)) == pytest.approx(CAMERA_SHARES)


def test_estimated_prior_finds_the_shares_of_the_place() -> None:
    """Faces of a population whose shares differ, with exact posteriors for the trained shares."""
    rng = np.random.default_rng(3)
    true = np.array([0.05, 0.05, 0.05, 0.6, 0.05, 0.05, 0.15])
    likelihoods = rng.dirichlet(np.full(200, 0.2), 7)
    emotions = rng.choice(7, 4000, p=true)
    kinds = np.array([rng.choice(200, p=likelihoods[emotion]) for emotion in emotions])
    posteriors = likelihoods[:, kinds].T / 7
    posteriors = (posteriors / posteriors.sum(axis=1, keepdims=True)).astype(np.float32)
    prior = EstimatedPrior(EVEN, EVEN)
    for batch in np.array_split(posteriors, 40):
        prior.count(prior(batch), np.full(len(batch), 60.0))
    expected = np.full(7, 1 / 7)
    for _ in range(100):  # over all faces at once; half of the weight is the initial shares'
        weighted = posteriors * expected
        expected = (1 / 7 + (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)) / 2
    np.testing.assert_allclose(prior.shares, expected, atol=0.02)
    assert expected[3] > 0.25
    right = (prior(posteriors).argmax(axis=1) == emotions).mean()
    assert right > (posteriors.argmax(axis=1) == emotions).mean()


def test_estimated_prior_limits_what_one_person_adds() -> None:
    a_minute, an_hour = (EstimatedPrior(EVEN, EVEN) for _ in range(2))
    watch(a_minute, one_emotion("sad"), people=1, seconds=60)
    watch(an_hour, one_emotion("sad"), people=1, seconds=3600)
    sad = EMOTIONS.index("sad")
    assert 1 / 7 < an_hour.shares[sad] <= a_minute.shares[sad] < 0.2


def test_estimated_prior_keeps_half_of_the_initial_shares() -> None:
    prior = EstimatedPrior(EVEN, EVEN)
    for _ in range(100):
        prior.count(prior(one_emotion("happy", 1.0)), np.array([3600.0]))
    assert prior.shares[EMOTIONS.index("happy")] == pytest.approx((1 + 1 / 7) / 2)
    assert prior.shares.min() == pytest.approx(1 / 14)


def test_estimated_prior_forgets_in_hours() -> None:
    prior = EstimatedPrior(EVEN, EVEN)
    watch(prior, one_emotion("happy"), people=60, seconds=60)
    full = prior.shares[EMOTIONS.index("happy")]
    prior.observe(prior(one_emotion("happy")), seen_at(3 * 24 * 3600.0, 99))
    assert prior.shares[EMOTIONS.index("happy")] < full / 2
    np.testing.assert_allclose(prior.shares.sum(), 1.0)


def test_estimated_prior_does_not_count_time_out_of_sight() -> None:
    prior = EstimatedPrior(EVEN, EVEN)
    prior.observe(prior(one_emotion("sad")), seen_at(0.0, 1))
    prior.observe(prior(one_emotion("sad")), seen_at(40.0, 1))
    assert prior.shares[EMOTIONS.index("sad")] < 1 / 7 + 0.001


def test_estimated_prior_logs_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    prior = EstimatedPrior(EVEN, EVEN)
    watch(prior, one_emotion("happy"), people=30, seconds=60)
    logged = [record for record in caplog.records if record.msg == "expected shares changed"]
    assert 2 <= len(logged) <= 10
    assert vars(logged[-1])["happy"] > vars(logged[0])["happy"] > 1 / 7


def test_recognizer_learns_from_scored_faces_only() -> None:
    prior = EstimatedPrior(CAMERA_SHARES, FER2013_SHARES)
    recognizer = EmotionRecognizer(EmotionEnsemble.load(), prior=prior)
    blurred = dataclasses.replace(face(), unscored=Unscored.TOO_BLURRED)
    for seconds in (0.0, 0.5):
        tracked = seen_at(seconds, 1, 2)
        recognizer(dataclasses.replace(tracked, faces=(TrackedFace(1, blurred), tracked.faces[1])))
    assert prior.shares.tolist() != list(CAMERA_SHARES.values())
    recognizer(dataclasses.replace(seen_at(0.6, 1), faces=(TrackedFace(1, blurred),)))
