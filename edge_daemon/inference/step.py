"""The inference step: all faces of a frame as one batch, within a time budget; then smoothing."""

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.clock import Clock
from edge_daemon.config.settings import (
    CAMERA_SHARES,
    InferenceSettings,
    SheddingSettings,
    SmoothingSettings,
)
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.records import (
    EMOTIONS,
    FaceEmotion,
    FrameResult,
    Image,
    Probabilities,
    TrackedFaces,
)

logger = logging.getLogger(__name__)

GAIN: Final = 0.1
"""Weight of one frame in the estimated cost."""

RESERVE: Final = 0.8
"""Share of the budget into which an additional member must fit."""


class TimeBudget:
    """Chooses how many members to use: as many as fit, in their order, and at least one.

    The estimated cost of a member is proportional to its multiply-accumulates, with a factor
    measured at run time. An additional member must fit with a reserve, so that the number is
    stable.

    Args:
        mmac: million multiply-accumulates of each member for one face, in their order.
        settings: `budget` is the time for one frame.
        frame_interval_s: the time without a `budget`.
        clock: the clock to use.
    """

    def __init__(
        self,
        mmac: Sequence[float],
        settings: SheddingSettings,
        frame_interval_s: float,
        clock: Clock,
    ) -> None:
        self._max_members = len(mmac)
        self._cost = np.cumsum(mmac)
        self._frame_interval_s = frame_interval_s
        self._budget_s = settings.budget or frame_interval_s
        self._clock = clock
        self._seconds_per_mmac = 0.0
        self._members_used = self._max_members

    def apply(self, settings: SheddingSettings) -> None:
        """Use another budget."""
        self._budget_s = settings.budget or self._frame_interval_s

    def set_max_members(self, members: int) -> None:
        """Use at most so many members, whatever the time."""
        self._max_members = members

    def members(self, faces: int) -> int:
        """Number of members that fit for so many faces; at least 1."""
        expected = faces * self._seconds_per_mmac * self._cost
        limits = np.where(np.arange(len(expected)) < self._members_used, 1.0, RESERVE)
        fitting = int(np.count_nonzero(expected <= limits * self._budget_s))
        self._members_used = max(1, min(fitting, self._max_members))
        return self._members_used

    @contextmanager
    def measured(self, faces: int, members: int) -> Iterator[None]:
        """Measure the time that so many members take for so many faces."""
        began = self._clock.monotonic()
        yield
        measured = (self._clock.monotonic() - began) / (faces * self._cost[members - 1])
        self._seconds_per_mmac += GAIN * (measured - self._seconds_per_mmac)


MIN_SHARE: Final = 1e-3
"""Smaller shares in the data count as this one: they are too few faces to calibrate on."""


class PriorCorrection:
    """Converts probabilities from the shares of one population to those of another.

    Args:
        expected: share of each emotion where the faces come from; they need not sum to 1.
        training_shares: share of each emotion in the data that the probabilities are calibrated on.
    """

    def __init__(self, expected: Mapping[str, float], training_shares: Mapping[str, float]) -> None:
        self._old = np.array([max(training_shares[name], MIN_SHARE) for name in EMOTIONS])
        self._expect(np.array([expected[name] for name in EMOTIONS]))

    def __call__(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Correct float32 [N, 7] probabilities; each row of the result sums to 1."""
        weighted = probabilities * self._factors
        corrected: NDArray[np.float32] = weighted / weighted.sum(axis=1, keepdims=True)
        return corrected

    def observe(self, corrected: NDArray[np.float32], tracked: TrackedFaces) -> None:
        """Learn from a frame's corrected probabilities; fixed shares do not."""

    def _expect(self, shares: NDArray[np.float64]) -> None:
        self._factors = (shares / self._old).astype(np.float32)


MAX_TRACK_S: Final = 60.0
"""Seconds for which a track counts, so that one person who stays does not outvote all who pass."""
MAX_GAP_S: Final = 1.0
"""Seconds that count between two frames of a track."""
FULL_WEIGHT_S: Final = 30 * MAX_TRACK_S
"""Seconds of faces from which they have their full weight."""
MAX_WEIGHT: Final = 0.5
"""Of the faces seen. The initial shares keep the rest: a face that the models misread raises the
share of what they read, and then is misread more often."""
HALF_LIFE_S: Final = 6 * 3600.0
"""After this time, a face counts half."""
LOGGED_CHANGE: Final = 0.05
"""Of a share, from which the estimate is logged again."""


class EstimatedPrior(PriorCorrection):
    """Estimates the expected shares from the faces of the last hours.

    This is expectation maximisation (Saerens, Latinne and Decaestecker 2002): the shares are the
    mean of the probabilities which these shares have corrected. It goes on with each frame (Cappé
    and Moulines 2009), and the initial shares have half of the weight or more.

    Args:
        initial: share of each emotion that is expected before a face is seen.
        training_shares: as for a `PriorCorrection`.
    """

    def __init__(self, initial: Mapping[str, float], training_shares: Mapping[str, float]) -> None:
        super().__init__(initial, training_shares)
        shares = np.array([initial[name] for name in EMOTIONS])
        self._initial: NDArray[np.float64] = shares / shares.sum()
        self._logged = self._initial
        self._seen_s: NDArray[np.float64] = np.zeros(len(EMOTIONS))
        self._tracks: dict[int, _Counted] = {}
        self._last_s = 0.0

    @property
    def shares(self) -> NDArray[np.float64]:
        """The expected share of each emotion, float64 [7] in the order of EMOTIONS."""
        total_s = float(self._seen_s.sum())
        if total_s == 0.0:
            return self._initial
        weight = MAX_WEIGHT * min(1.0, total_s / FULL_WEIGHT_S)
        shares: NDArray[np.float64] = (1 - weight) * self._initial + weight * self._seen_s / total_s
        return shares

    def observe(self, corrected: NDArray[np.float32], tracked: TrackedFaces) -> None:
        """Count each scored face for the time since its track was last counted."""
        now = tracked.frame.stream_time_s
        for track_id in self._tracks.keys() - tracked.live_tracks:
            del self._tracks[track_id]
        scored = [item.track_id for item in tracked.faces if item.face.unscored is None]
        seconds = [self._tracks.setdefault(track, _Counted(now)).until(now) for track in scored]
        self._seen_s *= 0.5 ** ((now - self._last_s) / HALF_LIFE_S)
        self._last_s = now
        self.count(corrected, np.array(seconds))
        shares = self.shares
        if np.abs(shares - self._logged).max() >= LOGGED_CHANGE:
            self._logged = shares
            named = dict(zip(EMOTIONS, shares.round(3).tolist(), strict=True))
            logger.info("expected shares changed", extra=named)

    def count(self, corrected: NDArray[np.float32], seconds: NDArray[np.float64]) -> None:
        """Count faces.

        Args:
            corrected: float32 [N, 7] probabilities which these shares have corrected.
            seconds: time that each face was seen, [N].
        """
        self._seen_s += seconds @ corrected
        self._expect(self.shares)


@dataclass
class _Counted:
    """A track's time that was counted."""

    last_s: float
    total_s: float = 0.0

    def until(self, now: float) -> float:
        """Count its time until now; return the part that is new."""
        seconds = min(now - self.last_s, MAX_GAP_S, MAX_TRACK_S - self.total_s)
        self.last_s, self.total_s = now, self.total_s + seconds
        return seconds


def prior_correction(
    settings: InferenceSettings, ensemble: EmotionEnsemble, *, is_still: bool
) -> PriorCorrection | None:
    """The correction that `inference.prior` asks for; by default none for images."""
    expected: Mapping[str, float] | None = settings.prior_shares
    if expected is None:
        if settings.prior == "none" or is_still:
            return None
        expected = CAMERA_SHARES
    correction = EstimatedPrior if settings.prior == "estimated" else PriorCorrection
    return correction(expected, ensemble.bundle.ensemble.shares)


class EmotionRecognizer:
    """Runs the ensemble on every face that is good enough.

    Args:
        ensemble: the models.
        budget: limits how many members are used; None: all.
        prior: converts the probabilities to the shares of the place; None: leaves them.
    """

    def __init__(
        self,
        ensemble: EmotionEnsemble,
        budget: TimeBudget | None = None,
        prior: PriorCorrection | None = None,
    ) -> None:
        self._ensemble = ensemble
        self._members = len(ensemble)
        self._budget = budget
        self._prior = prior

    def __call__(self, tracked: TrackedFaces) -> FrameResult:
        crops = [item.face.crop for item in tracked.faces if item.face.unscored is None]
        rows, members = self._predict(np.array(crops), tracked) if crops else ((), 0)
        remaining = iter(rows)
        emotions = []
        for item in tracked.faces:
            row = next(remaining) if item.face.unscored is None else None
            emotion = FaceEmotion(
                track_id=item.track_id,
                face=item.face,
                raw=row,
                probabilities=row,
                uncertain=False,
                members=0 if row is None else members,
            )
            emotions.append(emotion)
        return FrameResult(tracked.frame, tuple(emotions), tracked.live_tracks)

    def _predict(self, crops: Image, tracked: TrackedFaces) -> tuple[NDArray[np.float32], int]:
        """Probabilities of each crop, float32 [N, 7], and the number of members used."""
        if self._budget is None:
            members = self._members
            rows = self._ensemble.predict(crops)
        else:
            members = self._budget.members(len(crops))
            with self._budget.measured(len(crops), members):
                rows = self._ensemble.predict(crops, members)
        if self._prior is not None:
            rows = self._prior(rows)
            self._prior.observe(rows, tracked)
        return rows, members


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
