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

STEP: Final = 0.01
MAX_STEPS: Final = 300
"""At most, an emotion becomes twenty times as probable; none needs more."""


def minimum_adjustment(mixed: Scores, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The smallest additions to the log-probabilities that bring each recall to the limit.

    An emotion's recall rises with its own adjustment and falls with those of the others. So an
    emotion below the limit needs at least one step more, whatever the others get. Repeating such
    steps leads to the smallest adjustment of all emotions at once.

    Args:
        mixed: the ensemble's mean log-probabilities, float32 [N, 7].
        labels: int64 [N].

    Returns:
        The addition for each emotion, float64 [7], 0 or more.
    """
    required = _required(np.bincount(labels, minlength=len(EMOTIONS)))
    steps = np.zeros(len(EMOTIONS), int)
    while True:
        raised = (mixed + STEP * steps).astype(np.float32)
        # A general confusion matrix takes a hundred times as long, and there are hundreds of steps.
        is_found = raised.argmax(axis=1) == labels
        found = np.bincount(labels[is_found], minlength=len(EMOTIONS))
        lacking = np.where(steps < MAX_STEPS, required - found, 0.0)
        if lacking.max() <= 0:
            return STEP * steps
        steps[lacking.argmax()] += 1


def _required(faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many faces of each emotion must be found, with the margin of a binomial count."""
    deviation = np.sqrt(MIN_RECALL * (1 - MIN_RECALL) * faces)
    required: NDArray[np.float64] = np.minimum(MIN_RECALL * faces + MARGIN * deviation, faces)
    return required
