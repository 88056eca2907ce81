"""Results with several faces in a row, and a player that passes them to a preview."""

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
from builders import face, frame, probabilities
from preview.serving import Served
from running import PATIENCE

from edge_daemon.records import EMOTIONS, Box, Detection, Event, FaceEmotion, FrameResult

SIZE = (640, 360)
SIDE = 80


def crowd(
    tracks: Sequence[int], events: tuple[Event, ...] = (), file: str | None = None
) -> FrameResult:
    """A result captured now; the face of track N is the Nth from the left."""
    bgr = np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)
    captured = dataclasses.replace(
        frame(bgr=bgr),
        captured_at=datetime.now(UTC),
        captured_monotonic_s=time.monotonic(),
        file=file,
    )
    faces = tuple(_face(track) for track in tracks)
    return FrameResult(captured, faces, frozenset(tracks), events)


def _face(track: int) -> FaceEmotion:
    emotion = EMOTIONS[track % len(EMOTIONS)]
    box = Box(20 + (track - 1) * 105, 140, SIDE, SIDE)
    return FaceEmotion(
        track_id=track,
        face=dataclasses.replace(face(), detection=Detection(box, 0.9)),
        raw=probabilities(**{emotion: 0.9}),
        probabilities=probabilities(**{emotion: 0.7}),
        uncertain=track % 2 == 0,
        members=2,
    )


class Player:
    """Passes results to a preview, like a pipeline."""

    def __init__(self, served: Served) -> None:
        self.tracks: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
        self.is_lost = False
        self.file: str | None = None
        self._served = served
        self._stop = threading.Event()
        self._events: deque[Event] = deque()

    def happen(self, event: Event) -> None:
        """Add an event to the next result."""
        self._events.append(event)

    def run(self) -> None:
        while not self._stop.wait(0.1):
            if self.is_lost:
                self._served.source.lost()
            else:
                self._served.source.running()
                events = tuple(self._events.popleft() for _ in range(len(self._events)))
                result = crowd(self.tracks, events, self.file)
                self._served.health(result)
                self._served.server(result)
            self._served.poll()

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def playing(served: Served) -> Iterator[Player]:
    player = Player(served)
    thread = threading.Thread(target=player.run)
    thread.start()
    try:
        yield player
    finally:
        player.stop()
        thread.join(PATIENCE)
