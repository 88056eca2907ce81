import numpy as np
import pytest

from emotion_trainer.data import Dataset, Split
from emotion_trainer.recipe import Targets
from emotion_trainer.training.targets import class_weights, soft_targets


def test_labels_alone_are_one_hot(dataset: Dataset) -> None:
    targets = soft_targets(dataset.training, Targets())
    np.testing.assert_array_equal(targets, np.eye(7)[dataset.training.labels])


def test_smoothing_keeps_rows_summing_to_one(dataset: Dataset) -> None:
    targets = soft_targets(dataset.training, Targets(label_smoothing=0.14))
    assert targets.sum(axis=1) == pytest.approx(1.0)
    assert targets.min() == pytest.approx(0.02)
    assert targets.dtype == np.float32


def test_votes_that_agree_leave_the_label_on_top(dataset: Dataset) -> None:
    targets = soft_targets(dataset.training, Targets(votes_share=1.0))
    assert targets.sum(axis=1) == pytest.approx(1.0)
    np.testing.assert_array_equal(targets.argmax(axis=1), dataset.training.labels)


def test_votes_are_translated_into_the_habits_of_the_labels(dataset: Dataset) -> None:
    """If annotators vote neutral for faces labelled sad, such votes are translated into sad."""
    split = dataset.training
    votes = split.votes.copy()
    sad = split.labels == 4
    votes[sad] = [6, 0, 0, 4, 0, 0, 0, 0, 0, 0]
    targets = soft_targets(Split(split.images, split.labels, votes), Targets(votes_share=1.0))
    assert (targets[sad].argmax(axis=1) == 4).all()


def test_faces_without_votes_keep_their_label(dataset: Dataset) -> None:
    split = dataset.training
    votes = split.votes.copy()
    votes[:10] = 0
    targets = soft_targets(Split(split.images, split.labels, votes), Targets(votes_share=0.5))
    np.testing.assert_array_equal(targets[:10], np.eye(7)[split.labels[:10]])
    assert targets[10:].max() < 1.0


def test_faces_of_one_label_keep_it_despite_votes(dataset: Dataset) -> None:
    split = dataset.limited(1).training
    targets = soft_targets(split, Targets(votes_share=0.5))
    np.testing.assert_array_equal(targets, np.eye(7)[split.labels])


def test_rare_emotions_count_more() -> None:
    labels = np.array([3] * 9 + [1])
    alike, balanced, between = (class_weights(labels, exponent) for exponent in (0.0, 1.0, 0.5))
    np.testing.assert_array_equal(alike, 1.0)
    assert balanced[:9].sum() == pytest.approx(balanced[9])
    assert between[9] / between[0] == pytest.approx(3.0)
    for weights in (balanced, between):
        assert weights.mean() == pytest.approx(1.0)
        assert weights.dtype == np.float32
