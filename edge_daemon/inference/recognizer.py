"""The inference step: all faces of a frame through the ensemble, as one batch."""

import numpy as np

from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.records import FaceEmotion, FrameResult, Probabilities, TrackedFace, TrackedFaces


class EmotionRecognizer:
    """Asks the ensemble about every face that is good enough to be scored."""

    def __init__(self, ensemble: EmotionEnsemble) -> None:
        self._ensemble = ensemble

    def __call__(self, tracked: TrackedFaces) -> FrameResult:
        scored = [item for item in tracked.faces if item.face.unscored is None]
        rows = self._predict(scored)
        answers = {item.track_id: row for item, row in zip(scored, rows, strict=True)}
        emotions = tuple(self._emotion(item, answers.get(item.track_id)) for item in tracked.faces)
        return FrameResult(tracked.frame, emotions, tracked.remembered)

    def _predict(self, scored: list[TrackedFace]) -> list[Probabilities]:
        if not scored:
            return []
        return list(self._ensemble.predict(np.stack([item.face.crop for item in scored])))

    def _emotion(self, item: TrackedFace, answer: Probabilities | None) -> FaceEmotion:
        return FaceEmotion(
            track_id=item.track_id,
            face=item.face,
            raw=answer,
            probabilities=answer,
            uncertain=False,
            members=0 if answer is None else len(self._ensemble),
        )
