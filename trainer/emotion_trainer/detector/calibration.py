"""What a score means: logits are so shifted that the daemon's usual least score deserves it."""

from typing import Final

import keras
import numpy as np

from edge_daemon.config import DetectionSettings
from edge_daemon.detection.decoding import STRIDES
from emotion_trainer.detector.evaluation import Judged, precision_recall

USUAL: Final = DetectionSettings().min_score
PRECISION: Final = 0.98
"""Of all that is found with at least the usual score."""
LEAST, MOST = 0.3, 0.9
"""Bounds to what may be taken for the usual score: composed scenes are not the world."""


def deserving_score(judged: Judged) -> float:
    """The score from which on so many findings are right that it should be the usual one."""
    precision, _ = precision_recall(judged)
    enough = np.flatnonzero(precision >= PRECISION)
    scores = np.sort(judged.scores)[::-1]
    return min(MOST, max(LEAST, float(scores[enough[-1]]))) if len(enough) else MOST


def shift_scores(model: keras.Model, score: float) -> None:
    """Shift the network's logits, in place, so that what was `score` becomes the usual one."""
    shift = np.float32(_logit(USUAL) - _logit(score))
    for stride in STRIDES:
        bias = model.get_layer(f"scores_{stride}").bias
        bias.assign(bias + shift)


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))
