import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_trainer.bundle.balancing import MAX_LOSS, MIN_RECALL, STEP, minimum_adjustment

FACES = 7 * 200
DISGUST, FEAR = 1, 2
WANTED = MIN_RECALL + 1.5 * np.sqrt(MIN_RECALL * (1 - MIN_RECALL) / 200)


def drawn(seed: int, lowered: dict[int, float]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Log-probabilities that know the labels well, but for what the emotions are lowered by."""
    rng = np.random.default_rng(seed)
    labels = np.arange(FACES) % 7
    logs = rng.normal(0.0, 1.0, (FACES, 7))
    logs[np.arange(FACES), labels] += 2.0
    for emotion, by in lowered.items():
        logs[:, emotion] -= by
    return logs.astype(np.float32), labels


def recalls(logs: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    right = logs.argmax(axis=1) == labels
    return np.array([right[labels == emotion].mean() for emotion in range(7)])


def test_nothing_is_adjusted_where_all_is_found() -> None:
    assert not minimum_adjustment(*drawn(0, {})).any()


@pytest.mark.parametrize("lowered", [{FEAR: 2.0}, {DISGUST: 3.0, FEAR: 2.0}])
def test_minimum_adjustment_raises_only_low_recalls(lowered: dict[int, float]) -> None:
    logs, labels = drawn(0, lowered)
    assert recalls(logs, labels).min() < MIN_RECALL
    adjustment = minimum_adjustment(logs, labels)
    assert recalls(logs + adjustment, labels).min() >= MIN_RECALL
    assert set(np.flatnonzero(adjustment)) == set(lowered)


def test_margin_is_of_one_and_a_half_standard_deviations() -> None:
    logs, labels = drawn(0, {FEAR: 2.0})
    found = recalls(logs + minimum_adjustment(logs, labels), labels)[FEAR]
    assert WANTED <= found < WANTED + 0.02


def test_minimum_adjustment_needs_each_step() -> None:
    logs, labels = drawn(1, {DISGUST: 3.0, FEAR: 2.5})
    adjustment = minimum_adjustment(logs, labels)
    for emotion in (DISGUST, FEAR):
        less = adjustment.copy()
        less[emotion] -= STEP
        assert recalls(logs + less, labels)[emotion] < WANTED


def test_minimum_adjustment_gives_up_unreachable_emotions_only() -> None:
    logs, labels = drawn(2, {DISGUST: 50.0, FEAR: 2.0})
    adjustment = minimum_adjustment(logs, labels)
    assert np.flatnonzero(adjustment).tolist() == [FEAR]
    assert recalls(logs + adjustment, labels)[FEAR] >= MIN_RECALL


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0, 1.5])
def test_minimum_adjustment_of_weak_models_costs_little(strength: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(7, FACES, p=[0.13, 0.02, 0.14, 0.25, 0.18, 0.11, 0.17])
    logs = rng.normal(0.0, 1.0, (FACES, 7)).astype(np.float32)
    logs[np.arange(FACES), labels] += strength * rng.uniform(0.0, 2.0, 7)[labels]
    logs += np.log(np.bincount(labels) / FACES).astype(np.float32)
    raised = logs + minimum_adjustment(logs, labels)
    before, after = (scores.argmax(axis=1) == labels for scores in (logs, raised))
    assert after.mean() >= before.mean() - MAX_LOSS
    assert recalls(raised, labels).mean() >= recalls(logs, labels).mean()


def test_emotion_without_faces_is_not_missed() -> None:
    logs, labels = drawn(3, {DISGUST: 50.0})
    some = labels != DISGUST
    assert not minimum_adjustment(logs[some], labels[some]).any()
