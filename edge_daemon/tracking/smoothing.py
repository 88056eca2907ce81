"""Exponential smoothing of each track's probabilities over time."""

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from edge_daemon.config.settings import SmoothingSettings
from edge_daemon.records import FaceEmotion, FrameResult, Probabilities


@dataclass
class _Smoothed:
    probabilities: Probabilities
    at_s: float


class Smoother:
    """Exponential smoothing by a time constant, so that the frame rate does not matter.

    It also flags uncertain emotions.
    """

    def __init__(self, settings: SmoothingSettings) -> None:
        self._settings = settings
        self._tracks: dict[int, _Smoothed] = {}

    def apply(self, settings: SmoothingSettings) -> None:
        """Use other settings."""
        self._settings = settings

    def __call__(self, result: FrameResult) -> FrameResult:
        for track_id in self._tracks.keys() - result.live_tracks:
            del self._tracks[track_id]
        smoothed = partial(self._smoothed, result.frame.stream_time_s)
        return dataclasses.replace(result, faces=tuple(map(smoothed, result.faces)))

    def _smoothed(self, now: float, face: FaceEmotion) -> FaceEmotion:
        if face.raw is None:
            return face
        before = self._tracks.get(face.track_id)
        time_constant = self._settings.time_constant
        if before is None or time_constant == 0:
            probabilities = face.raw
        else:
            gain = np.float32(1 - math.exp(-max(0.0, now - before.at_s) / time_constant))
            probabilities = before.probabilities + gain * (face.raw - before.probabilities)
        self._tracks[face.track_id] = _Smoothed(probabilities, now)
        uncertain = float(probabilities.max()) < self._settings.uncertain_below
        return dataclasses.replace(face, probabilities=probabilities, uncertain=uncertain)
