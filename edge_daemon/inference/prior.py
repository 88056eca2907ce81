"""Prior correction: probabilities for a place where emotions have other shares than in the data.

A calibrated probability depends on the shares of the emotions in the data that it was calibrated
on. Multiplied by new shares over old ones and normalised, it is the probability under the new
shares (Saerens, Latinne & Decaestecker 2002).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import EMOTIONS

CAMERA_SHARES: Final[Mapping[str, float]] = {
    "angry": 0.08,
    "disgust": 0.02,
    "fear": 0.05,
    "happy": 0.20,
    "sad": 0.10,
    "surprise": 0.05,
    "neutral": 0.50,
}
"""An estimate for people in front of a camera, who are mostly neutral; FER2013 has 17 % neutral."""

MIN_SHARE: Final = 1e-3
"""Smaller shares in the data count as this one: they are too few faces to calibrate on."""


class PriorCorrection:
    """Converts probabilities from the shares of one population to those of another.

    Args:
        expected: share of each emotion where the faces come from; they need not sum to 1.
        calibrated: share of each emotion in the data that the probabilities are calibrated on.
    """

    def __init__(self, expected: Mapping[str, float], calibrated: Mapping[str, float]) -> None:
        old = np.array([max(calibrated[name], MIN_SHARE) for name in EMOTIONS])
        new = np.array([expected[name] for name in EMOTIONS])
        self._factors = (new / old).astype(np.float32)

    def __call__(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Correct float32 [N, 7] probabilities; each row of the result sums to 1."""
        weighted = probabilities * self._factors
        corrected: NDArray[np.float32] = weighted / weighted.sum(axis=1, keepdims=True)
        return corrected
