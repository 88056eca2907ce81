"""Builders of records with defaults, for the tests of single steps."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from drawing import Image, draw_face

from edge_daemon.records import (
    EMOTIONS,
    Box,
    Detection,
    Event,
    EventKind,
    Face,
    FaceEmotion,
    FoundFaces,
    Frame,
    FrameResult,
    Probabilities,
    Unscored,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def frame(at: float = 0.0, scene: int = 0, bgr: Image | None = None, index: int = 0) -> Frame:
    """A frame `at` seconds of stream time."""
    picture = np.zeros((240, 320, 3), np.uint8) if bgr is None else bgr
    return Frame(index, scene, picture, EPOCH + timedelta(seconds=at), 1000.0 + at, at)


def face(
    x: float = 100.0,
    y: float = 100.0,
    side: float = 50.0,
    *,
    crop: Image | None = None,
    unscored: Unscored | None = None,
    score: float = 0.9,
) -> Face:
    """A face in a square box."""
    detection = Detection(Box(x, y, side, side), score)
    return Face(detection, draw_face(48) if crop is None else crop, unscored)


def found(at: float, *faces: Face, scene: int = 0) -> FoundFaces:
    return FoundFaces(frame(at, scene), faces)


def probabilities(**shares: float) -> Probabilities:
    """These shares; the other emotions have equal parts of the rest."""
    rest = (1.0 - sum(shares.values())) / (len(EMOTIONS) - len(shares))
    return np.array([shares.get(name, rest) for name in EMOTIONS], np.float32)


def result(
    at: float, answers: dict[int, Probabilities | None], live_tracks: set[int] | None = None
) -> FrameResult:
    """A frame's result: the answer for each track in it; more tracks may be live."""
    faces = tuple(
        FaceEmotion(track, face(), raw=answer, probabilities=answer, uncertain=False, members=1)
        for track, answer in answers.items()
    )
    return FrameResult(frame(at), faces, frozenset(answers) | frozenset(live_tracks or ()))


def event(
    kind: EventKind = EventKind.APPEARED,
    at: datetime = EPOCH,
    emotion: str = "happy",
    previous: str | None = None,
    number: int = 1,
) -> Event:
    """An event of track 5, which appeared two seconds before; its ID contains the number."""
    return Event(
        event_id=UUID(int=number),
        kind=kind,
        track_id=5,
        at=at,
        emotion=emotion,
        previous=previous,
        duration=2.0,
        probabilities=probabilities(**{emotion: 0.7}),
    )
