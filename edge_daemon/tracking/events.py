"""Events: a face appeared, its emotion changed, it left.

An emotion has changed when another one leads by a margin (hysteresis) for some time (dwell), so
that two emotions of equal strength do not cause a series of events. Frames in which the face is not
scored neither end that lead nor count as a part of it.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import EventSettings
from edge_daemon.records import (
    EMOTIONS,
    EmotionName,
    Event,
    EventKind,
    Frame,
    FrameResult,
    Probabilities,
    black_image,
)

MAX_UNSCORED_S: Final = 2.0
"""Seconds without a score after which a lead starts again: what was seen before is too old."""


@dataclass
class _Visit:
    began_s: float
    """Stream time of the first frame."""
    seen_s: float
    """Stream time of the last frame with the face."""
    seen_at: datetime
    """When that frame was captured."""
    position_s: float | None = None
    """Where it is in a video."""
    file: str | None = None
    """The image that it is."""
    emotion: EmotionName | None = None
    rival: EmotionName | None = None
    rival_since: float = 0.0
    """Stream time at which its lead began, later by the time without a score since then."""
    scored_s: float | None = None
    """Stream time of the last frame in which the face was scored."""
    announced: bool = False
    scored: int = 0
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(EMOTIONS)))
    """Sum of the smoothed probabilities of the `scored` frames."""

    def see(self, frame: Frame, probabilities: Probabilities | None) -> None:
        # The frame itself would keep its image in memory.
        self.seen_s, self.seen_at = frame.stream_time_s, frame.captured_at
        self.position_s, self.file = frame.position_s, frame.file
        if probabilities is not None:
            self.scored += 1
            self.total += probabilities

    @property
    def mean(self) -> Probabilities | None:
        """Mean probabilities over the visit so far."""
        return (self.total / self.scored).astype(np.float32) if self.scored else None


class EventMaker:
    """The step that adds events to a result."""

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self._visits: dict[int, _Visit] = {}
        self._last: FrameResult | None = None

    def apply(self, settings: EventSettings) -> None:
        """Use other settings."""
        self._settings = settings

    def __call__(self, result: FrameResult) -> FrameResult:
        departures = self._departures(result.live_tracks)
        events = (*departures, *self._news(result))
        self._last = result
        return dataclasses.replace(result, events=events)

    def finish(self) -> FrameResult | None:
        """The result of a blank frame after the last one, in which every face has left.

        Returns:
            None if no face has appeared.
        """
        events = tuple(self._departures(frozenset()))
        if self._last is None or not events:
            return None
        last = self._last.frame
        black = black_image(last.bgr.shape)
        frame = dataclasses.replace(last, index=last.index + 1, bgr=black, is_blank=True)
        return FrameResult(frame, faces=(), live_tracks=frozenset(), events=events)

    def _departures(self, live_tracks: frozenset[int]) -> Iterator[Event]:
        for track_id in sorted(self._visits.keys() - live_tracks):
            visit = self._visits.pop(track_id)
            if visit.announced:
                yield _event(EventKind.LEFT, track_id, visit)

    def _news(self, result: FrameResult) -> Iterator[Event]:
        now = result.frame.stream_time_s
        for face in result.faces:
            visit = self._visits.get(face.track_id)
            if visit is None:
                visit = self._visits[face.track_id] = _Visit(now, now, result.frame.captured_at)
            visit.see(result.frame, face.probabilities)
            previous = visit.emotion
            if face.probabilities is not None:
                self._follow(visit, face.probabilities)
            if not visit.announced:
                if now - visit.began_s >= self._settings.appear_after:
                    visit.announced = True
                    yield _event(EventKind.APPEARED, face.track_id, visit)
            elif visit.emotion != previous:
                yield _event(EventKind.EMOTION_CHANGED, face.track_id, visit, previous)

    def _follow(self, visit: _Visit, probabilities: Probabilities) -> None:
        """Move the visit's emotion on, once its rival has led for long enough."""
        unscored_s = 0.0  # from the last score to the previous frame
        if self._last is not None and visit.scored_s is not None:
            unscored_s = self._last.frame.stream_time_s - visit.scored_s
        visit.scored_s = visit.seen_s
        rival = self._rival(visit, probabilities)
        if rival != visit.rival or unscored_s > MAX_UNSCORED_S:
            visit.rival, visit.rival_since = rival, visit.seen_s
        else:
            visit.rival_since += unscored_s
        if rival is None:
            return
        if visit.emotion is None or visit.seen_s - visit.rival_since >= self._settings.dwell:
            visit.emotion, visit.rival = rival, None

    def _rival(self, visit: _Visit, probabilities: Probabilities) -> EmotionName | None:
        """The emotion that leads the visit's own by the margin."""
        leader = EMOTIONS[int(probabilities.argmax())]
        if leader == visit.emotion:
            return None
        if visit.emotion is None:
            return leader
        own = float(probabilities[EMOTIONS.index(visit.emotion)])
        leads = float(probabilities.max()) - own >= self._settings.margin
        return leader if leads else None


def _event(
    kind: EventKind, track_id: int, visit: _Visit, previous: EmotionName | None = None
) -> Event:
    return Event(
        event_id=uuid4(),
        kind=kind,
        track_id=track_id,
        at=visit.seen_at,
        emotion=visit.emotion,
        previous=previous,
        duration=round(visit.seen_s - visit.began_s, 3),
        probabilities=visit.mean,
        position_s=visit.position_s,
        file=visit.file,
    )
