"""What is so now: how many faces, and the emotion of them all."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.config.settings import SmoothingSettings
from edge_daemon.pipeline import Busy, Service
from edge_daemon.publishing.topics import Message
from edge_daemon.records import EMOTIONS, FaceEmotion, FrameResult
from edge_daemon.schema import Mood, StateMessage

SHORTEST_INTERVAL: Final = 1.0
"""Seconds between two states that are told."""


def dominant_emotion(faces: tuple[FaceEmotion, ...], uncertain_below: float) -> Mood:
    """The top of the faces' mean probabilities, in which a face counts by its area."""
    scored = [face for face in faces if face.probabilities is not None]
    if not scored:
        return "none"
    areas = [face.face.detection.box.width * face.face.detection.box.height for face in scored]
    mean = np.average([face.probabilities for face in scored], axis=0, weights=areas)
    if mean.max() < uncertain_below:
        return "uncertain"
    return EMOTIONS[int(mean.argmax())]


def _never() -> bool:
    return False


@dataclass(frozen=True)
class _State:
    faces: int
    emotion: Mood
    since: datetime
    at: datetime


class StateKeeper(Service):
    """The step that notes what is so, and the service that tells it.

    It is told when it changes, but not more often than once a second; and now and then though
    nothing changed, as long as there are results, or none are wanted.

    Args:
        topic: where it is told.
        keep: publishes a message that is so until the next one.
        uncertain_below: confidence under which the emotion of all is called uncertain.
        heartbeat: seconds between two messages at most.
        clock: where the time is read.
        paused: tells whether the source is paused.
    """

    name = "state"

    def __init__(
        self,
        topic: str,
        keep: Callable[[Message], None],
        uncertain_below: float,
        *,
        heartbeat: float,
        clock: Clock,
        paused: Callable[[], bool] = _never,
    ) -> None:
        self._topic = topic
        self._keep = keep
        self._uncertain_below = uncertain_below
        self._heartbeat = heartbeat
        self._paused = paused
        self._state = _State(0, "none", clock.now(), clock.now())
        self._seen_since_told = False
        self._ever_seen = False
        self._due = threading.Event()
        self._stopping = threading.Event()

    def __call__(self, result: FrameResult) -> FrameResult:
        """Note a result, and pass it on."""
        before, at = self._state, result.frame.captured_at
        emotion = dominant_emotion(result.faces, self._uncertain_below)
        since = before.since if emotion == before.emotion else at
        self._state = _State(len(result.faces), emotion, since, at)
        changed = (before.faces, before.emotion) != (len(result.faces), emotion)
        if changed or not self._ever_seen:
            self.refresh()
        self._ever_seen = self._seen_since_told = True
        return result

    def apply(self, settings: SmoothingSettings) -> None:
        """Use another limit of uncertainty."""
        self._uncertain_below = settings.uncertain_below

    def refresh(self) -> None:
        """Tell the state anew, as when the source was paused. May be called in any thread."""
        self._due.set()

    def run(self, busy: Busy) -> None:
        """Tell the state whenever it is time, until `stop` is called."""
        while not self._stopping.is_set():
            changed = self._due.wait(self._heartbeat)
            if not self._stopping.is_set() and (changed or self._seen_since_told or self._paused()):
                with busy():
                    self._tell()
            self._stopping.wait(SHORTEST_INTERVAL)

    def stop(self) -> None:
        self._stopping.set()
        self._due.set()

    def _tell(self) -> None:
        self._due.clear()
        self._seen_since_told = False
        state = self._state
        message = StateMessage(
            time=state.at,
            faces=state.faces,
            emotion=state.emotion,
            since=state.since,
            paused=self._paused(),
        )
        payload = message.model_dump_json(by_alias=True).encode()
        self._keep(Message(self._topic, payload, retain=True, qos=1))
