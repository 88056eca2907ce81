"""Soft targets: FER2013's labels, softened by the votes of FER+'s annotators.

The two label sets differ systematically: annotators of FER+ label many faces neutral that FER2013
labels sad. Raw votes would train the model on the other labelling. So the votes are translated
first: a multinomial regression, fitted on the training split, predicts FER2013's label from the
votes.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from edge_daemon.records import EMOTIONS
from emotion_trainer.data import Split
from emotion_trainer.recipe import Targets

MIN_LABELS: Final = 2


def soft_targets(split: Split, settings: Targets) -> NDArray[np.float32]:
    """Target distributions, float32 [N, 7], rows sum to 1.

    A face's label is smoothed (Szegedy et al. 2016) and, where it has votes, mixed with their
    translation in the share that the recipe gives.
    """
    smoothed = _smoothed(split.labels, settings.label_smoothing)
    voted = split.votes.any(axis=1)
    # A regression needs two labels, which a trial on a few faces may lack.
    if settings.votes_share == 0.0 or len(np.unique(split.labels[voted])) < MIN_LABELS:
        return smoothed
    translated = _translate(split.votes[voted], split.labels[voted])
    smoothed[voted] += settings.votes_share * (translated - smoothed[voted])
    return smoothed


def class_weights(labels: NDArray[np.int64], exponent: float) -> NDArray[np.float32]:
    """The weight of each face, float32 [N], mean 1: its label's inverse frequency, to a power.

    Faces of rare emotions have larger weights; at the exponent 0, all weights are 1.
    """
    frequencies = np.bincount(labels)[labels] / len(labels)
    weights = frequencies**-exponent
    weights /= weights.mean()
    return weights.astype(np.float32)


def _smoothed(labels: NDArray[np.int64], smoothing: float) -> NDArray[np.float32]:
    certain = np.eye(len(EMOTIONS), dtype=np.float32)[labels]
    return (1.0 - smoothing) * certain + np.float32(smoothing / len(EMOTIONS))


def _translate(votes: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """P(label | votes), float32 [N, 7]; zero for emotions that no face here is labelled with."""
    shares = votes / votes.sum(axis=1, keepdims=True)
    regression = LogisticRegression(C=10.0, max_iter=500).fit(shares, labels)
    probabilities = np.zeros((len(labels), len(EMOTIONS)), np.float32)
    probabilities[:, regression.classes_] = regression.predict_proba(shares)
    return probabilities
