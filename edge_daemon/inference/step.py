"""The inference step: all faces of a frame through the ensemble, as one batch."""

import numpy as np
from numpy.typing import NDArray

from edge_daemon.inference.budget import TimeBudget
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.inference.prior import PriorCorrection
from edge_daemon.records import (
    FaceEmotion,
    FrameResult,
    Image,
    Probabilities,
    TrackedFace,
    TrackedFaces,
)


class EmotionRecognizer:
    """Runs the ensemble on every face that is good enough.

    Args:
        ensemble: the models.
        budget: limits how many models are used; None: all.
        prior: converts the probabilities to the shares of the place; None: leaves them.
    """

    def __init__(
        self,
        ensemble: EmotionEnsemble,
        budget: TimeBudget | None = None,
        prior: PriorCorrection | None = None,
    ) -> None:
        self._ensemble = ensemble
        self._budget = budget
        self._prior = prior

    def __call__(self, tracked: TrackedFaces) -> FrameResult:
        scored = [item for item in tracked.faces if item.face.unscored is None]
        rows, members = self._answers(scored) if scored else ([], 0)
        answers = {item.track_id: row for item, row in zip(scored, rows, strict=True)}
        emotions = tuple(
            [_emotion(item, answers.get(item.track_id), members) for item in tracked.faces]
        )
        return FrameResult(tracked.frame, emotions, tracked.remembered)

    def _answers(self, scored: list[TrackedFace]) -> tuple[list[Probabilities], int]:
        """A row for each face, and the number of models used."""
        crops = np.array([item.face.crop for item in scored])
        rows, members = self._predict(crops)
        return list(rows if self._prior is None else self._prior(rows)), members

    def _predict(self, crops: Image) -> tuple[NDArray[np.float32], int]:
        if self._budget is None:
            return self._ensemble.predict(crops), len(self._ensemble)
        members = self._budget.models(len(crops))
        with self._budget.measured(len(crops), members):
            return self._ensemble.predict(crops, members), members


def _emotion(item: TrackedFace, answer: Probabilities | None, members: int) -> FaceEmotion:
    return FaceEmotion(
        track_id=item.track_id,
        face=item.face,
        raw=answer,
        probabilities=answer,
        uncertain=False,
        members=0 if answer is None else members,
    )
