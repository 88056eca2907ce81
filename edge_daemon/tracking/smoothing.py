"""Steadier probabilities: what one frame says is weighed against what the last moments said."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from edge_daemon.records import FaceEmotion, FrameResult, Probabilities


@dataclass
class _Memory:
    probabilities: Probabilities
    at: float


class Smoother:
    """Exponential smoothing by a time constant, so that the frame rate does not matter.

    Args:
        time_constant: seconds after which a change is through to 63 %; 0 switches smoothing off.
        uncertain_below: confidence under which a face's emotion is flagged as uncertain.
    """

    def __init__(self, time_constant: float, uncertain_below: float) -> None:
        self._time_constant = time_constant
        self._uncertain_below = uncertain_below
        self._memories: dict[int, _Memory] = {}

    def adjust(self, time_constant: float, uncertain_below: float) -> None:
        """Take over another time constant and limit."""
        self._time_constant, self._uncertain_below = time_constant, uncertain_below

    def __call__(self, result: FrameResult) -> FrameResult:
        for track_id in self._memories.keys() - result.remembered:
            del self._memories[track_id]
        now = result.frame.stream_time
        faces = tuple(self._smoothed(face, now) for face in result.faces)
        return dataclasses.replace(result, faces=faces)

    def _smoothed(self, face: FaceEmotion, now: float) -> FaceEmotion:
        if face.raw is None:
            return face
        memory = self._memories.get(face.track_id)
        if memory is None:
            probabilities = face.raw
        else:
            gain = np.float32(self._gain(now - memory.at))
            probabilities = memory.probabilities + gain * (face.raw - memory.probabilities)
        self._memories[face.track_id] = _Memory(probabilities, now)
        uncertain = float(probabilities.max()) < self._uncertain_below
        return dataclasses.replace(face, probabilities=probabilities, uncertain=uncertain)

    def _gain(self, elapsed: float) -> float:
        if self._time_constant == 0:
            return 1.0
        return 1.0 - math.exp(-max(0.0, elapsed) / self._time_constant)
