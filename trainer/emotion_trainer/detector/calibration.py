"""What a score means: logits are so shifted that the daemon's usual least score deserves it."""

from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import DetectionSettings
from edge_daemon.detection.decoding import STRIDES

USUAL: Final = DetectionSettings().min_score
FALSE_POSITIVES: Final = 0.01
"""In a scene without a face: what the usual score is to let pass."""
LEAST, MOST = 0.3, 0.9
"""Bounds to what may be taken for the usual score: composed scenes are not the world."""


def deserving_score(imagined: NDArray[np.float32], empty: int) -> float:
    """The score from which on false positives are so rare that it should be the usual one.

    Args:
        imagined: the scores of all that was found in scenes without a face.
        empty: how many these scenes were.
    """
    allowed = int(FALSE_POSITIVES * empty)
    if len(imagined) <= allowed:
        return LEAST
    return min(MOST, max(LEAST, float(np.sort(imagined)[::-1][allowed])))


def shift_scores(model: keras.Model, score: float) -> None:
    """Shift the network's logits, in place, so that what was `score` becomes the usual one."""
    shift = np.float32(_logit(USUAL) - _logit(score))
    for stride in STRIDES:
        bias = model.get_layer(f"scores_{stride}").bias
        bias.assign(bias + shift)


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))
