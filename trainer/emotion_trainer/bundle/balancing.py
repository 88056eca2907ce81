"""Logit adjustment: the smallest one with which no emotion's recall is below a limit.

Before the largest log-probability is taken, those of some emotions are raised (Menon et al. 2021).
Menon's adjustment depends on how rare an emotion is in training. FER2013's fear is not rare, but
most of its faces are predicted as something else. So the adjustment here is fitted to the recalls.
Under a lower limit on all recalls, the most accurate classifier has this form: it raises the
emotions whose recall is at the limit, and no others (Narasimhan et al. 2024).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import EMOTIONS
from emotion_trainer.models.predictions import Scores

MIN_RECALL: Final = 0.47
MARGIN: Final = 1.5
"""Standard deviations of a recall: the recall on new faces is lower than on those fitted on.

With this margin, 68 % of random halves of PublicTest kept all recalls above the limit after a fit
on the other half, at a cost of 0.1 points of accuracy. Without a margin, 50 % did, at no cost.
"""

MAX_LOSS: Final = 0.015
"""Of accuracy on the faces that are fitted on: dearer recalls are given up.

On held-out halves, a network of accuracy 0.548 without a limit fell to 0.485; with this one it had
0.551. One of 0.701 kept a lowest recall of 0.487 (0.448 without an adjustment), at 0.696.
"""

STEP: Final = 0.01
MAX_STEPS: Final = 300
"""At most, an emotion becomes twenty times as probable; a recall that needs more is given up."""

Labels = NDArray[np.int64]
Counts = NDArray[np.int64]


def minimum_adjustment(mixed: Scores, labels: Labels) -> NDArray[np.float64]:
    """The smallest additions to the log-probabilities that bring the recalls to the limit.

    An emotion's recall rises with its own adjustment and falls with those of the others. So an
    emotion below the limit needs at least one step more, whatever the others get. Repeating such
    steps leads to the smallest adjustment of all emotions at once.

    A weak model cannot reach the limit for all emotions, or only at the cost of many correct
    predictions. So the recalls below the limit are added one by one, the lowest first. One is
    given up that cannot be reached, costs more than `MAX_LOSS` of accuracy, or lowers the mean
    recall.

    Args:
        mixed: the ensemble's mean log-probabilities, float32 [N, 7].
        labels: int64 [N].

    Returns:
        The addition for each emotion, float64 [7], 0 or more.
    """
    faces = np.bincount(labels, minlength=len(EMOTIONS))
    limits = _required(faces)
    steps = np.zeros(len(EMOTIONS), int)
    before = _found(mixed, labels, steps)
    lacking = (limits - before) / np.maximum(faces, 1)
    required = np.where(lacking > 0, 0.0, limits)
    for emotion in (-lacking).argsort(kind="stable")[: (lacking > 0).sum()]:
        more = required.copy()
        more[emotion] = limits[emotion]
        candidate = _minimum_steps(mixed, labels, more)
        after = _found(mixed, labels, candidate)
        if (after >= more).all() and not _is_worse(before, after, faces):
            required, steps = more, candidate
    return STEP * steps


def _minimum_steps(mixed: Scores, labels: Labels, required: NDArray[np.float64]) -> Counts:
    """The fewest steps with which the required faces are found, or those until one has the most."""
    steps = np.zeros(len(EMOTIONS), int)
    while True:
        lacking = required - _found(mixed, labels, steps)
        if lacking.max() <= 0 or steps.max() == MAX_STEPS:
            return steps
        steps[lacking.argmax()] += 1


def _found(mixed: Scores, labels: Labels, steps: Counts) -> Counts:
    """How many faces of each emotion are predicted as it, after so many steps."""
    raised = (mixed + STEP * steps).astype(np.float32)
    # A general confusion matrix takes a hundred times as long, and there are hundreds of steps.
    is_found = raised.argmax(axis=1) == labels
    return np.bincount(labels[is_found], minlength=len(EMOTIONS))


def _is_worse(before: Counts, after: Counts, faces: Counts) -> bool:
    """Whether an adjustment costs too much accuracy, or lowers the mean recall."""
    too_dear = before.sum() - after.sum() > MAX_LOSS * faces.sum()
    present = faces > 0
    gained = ((after - before)[present] / faces[present]).sum()
    return bool(too_dear or gained < 0)


def _required(faces: Counts) -> NDArray[np.float64]:
    """How many faces of each emotion must be found, with the margin of a binomial count."""
    deviation = np.sqrt(MIN_RECALL * (1 - MIN_RECALL) * faces)
    required: NDArray[np.float64] = np.minimum(MIN_RECALL * faces + MARGIN * deviation, faces)
    return required
