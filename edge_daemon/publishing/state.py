"""The retained messages: availability, health and the current state; only the latest counts.

The network's thread uses `AvailabilityMonitor` and `OverwriteDetector`; the reporters of health and
state are services.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from edge_daemon._lib.clock import Clock, Outage
from edge_daemon.config.settings import HealthSettings, SmoothingSettings
from edge_daemon.pipeline import Busy, Service
from edge_daemon.publishing.messages import Availability, Message
from edge_daemon.records import EMOTIONS, FaceEmotion, Frame, FrameResult, Probabilities
from edge_daemon.schema import DominantEmotion, HealthMessage, StateMessage, rounded

if TYPE_CHECKING:  # `watch` imports this module, and must not load OpenCV
    from edge_daemon.capture.status import SourceStatus

logger = logging.getLogger(__name__)

ONLINE: Final = Availability.ONLINE.encode()
OFFLINE: Final = Availability.OFFLINE.encode()

CHECK_INTERVAL_S: Final = 0.25
"""Time between two checks of the source's state, and of whether it is paused."""


class AvailabilityMonitor:
    """Online while results come, or the source is paused.

    Args:
        topic: where to publish it.
        stale_after_s: time without a result after which the device is offline.
        is_paused: whether the source is paused.
        clock: the clock to use.
    """

    def __init__(
        self, topic: str, stale_after_s: float, is_paused: Callable[[], bool], clock: Clock
    ) -> None:
        self.offline = Message(topic, OFFLINE, retain=True, qos=1)
        """The message of a device that is not there; also the will."""
        self._online = Message(topic, ONLINE, retain=True, qos=1)
        self._stale_after_s = stale_after_s
        self._is_paused = is_paused
        self._clock = clock
        self._last_result = clock.monotonic()
        self._stale = Outage(clock)

    def note_result(self) -> None:
        """A result has come, in any thread."""
        self._last_result = self._clock.monotonic()

    def is_online(self) -> bool:
        """Whether results have come lately, or the source is paused."""
        if self._is_paused():
            self.note_result()
        return self._clock.monotonic() - self._last_result <= self._stale_after_s

    def current(self) -> Message:
        """The present availability; logs when it changes."""
        if not self.is_online():
            if self._stale.begin():
                logger.warning(
                    "no results, publishing offline", extra={"seconds": self._stale_after_s}
                )
        elif (seconds := self._stale.end()) is not None:
            logger.info("results resumed, publishing online", extra={"seconds": seconds})
        return self.offline if self._stale.is_active else self._online


SETTLE_S: Final = 3.0
"""Time in which own messages come back, before another client's message counts."""

REPEAT_INTERVAL_S: Final = 10.0
"""Time between two repetitions, since another client may continue."""

OVERWRITTEN: Final = "availability overwritten by another client, publishing it again"

OVERWRITTEN_LOG_INTERVAL_S: Final = 3600.0


class OverwriteDetector:
    """Detects that another client has replaced the retained `online`, such as a second device.

    The broker also delivers this client's own messages, so the last delivery is what it retains.
    Only `online` is defended, so two devices with one ID never answer each other in turn.

    Args:
        topic: the topic of the availability.
        clock: the clock to use.
    """

    def __init__(self, topic: str, clock: Clock) -> None:
        self.topic = topic
        self._clock = clock
        self._published = self._retained = OFFLINE
        self._due_at = self._log_at = float("-inf")

    def on_published(self, payload: bytes) -> None:
        """Note what this client publishes."""
        self._published = self._retained = payload

    def on_received(self, payload: bytes) -> None:
        """Note what the broker delivers."""
        is_own_retained = self._retained == self._published
        if is_own_retained and payload != self._published:
            self._due_at = max(self._due_at, self._clock.monotonic() + SETTLE_S)
        self._retained = payload

    def take_repeat(self) -> bool:
        """Whether to publish `online` again now; logs that, at most once an hour."""
        now = self._clock.monotonic()
        is_overwritten = self._published == ONLINE and self._retained != ONLINE
        if not is_overwritten or now < self._due_at:
            return False
        self._due_at = now + REPEAT_INTERVAL_S
        if now >= self._log_at:
            self._log_at = now + OVERWRITTEN_LOG_INTERVAL_S
            logger.warning(
                OVERWRITTEN,
                extra={"topic": self.topic, "hint": "another device may use this device_id"},
            )
        return True


class HealthProvider(Protocol):
    """What the message is made of."""

    @property
    def source(self) -> "SourceStatus":
        """State of the source."""
        ...

    def message(self) -> HealthMessage:
        """The present health; must not wait for the disk."""
        ...


class HealthReporter(Service):
    """The service that publishes the health message.

    Args:
        health: what to publish.
        topic: where to publish it.
        publish_retained: publishes a state until the next one.
        settings: `interval` is the time between two messages.
        max_interval_s: limit on that.
    """

    name = "health"
    is_hang_fatal = False

    def __init__(
        self,
        health: HealthProvider,
        topic: str,
        publish_retained: Callable[[Message], None],
        settings: HealthSettings,
        max_interval_s: float,
    ) -> None:
        self._health = health
        self._topic = topic
        self._publish_retained = publish_retained
        self._max_interval_s = max_interval_s
        self._interval_s = min(settings.interval, max_interval_s)
        self._is_due = True
        self._stopping = threading.Event()

    def run(self, busy: Busy) -> None:
        """Report until `stop` is called."""
        waited_s, reported = 0.0, self._health.source.state
        while not self._stopping.is_set():
            state = self._health.source.state
            if self._is_due or state is not reported or waited_s >= self._interval_s:
                waited_s, reported, self._is_due = 0.0, state, False
                with busy:
                    payload = self._health.message().model_dump_json(by_alias=True).encode()
                    self._publish_retained(Message(self._topic, payload, retain=True, qos=1))
            self._stopping.wait(min(CHECK_INTERVAL_S, self._interval_s))
            waited_s += min(CHECK_INTERVAL_S, self._interval_s)

    def apply(self, settings: HealthSettings) -> None:
        """Apply a changed interval, which begins with a message."""
        self._interval_s = min(settings.interval, self._max_interval_s)
        self._is_due = True

    def stop(self) -> None:
        self._stopping.set()


@dataclass(frozen=True)
class _State:
    faces: int
    emotion: DominantEmotion
    since: datetime
    at: datetime
    probabilities: Probabilities | None = None


MIN_INTERVAL_S: Final = 1.0
"""Time between two state messages."""

MIN_JUMP_S: Final = 1.0
"""Change of the wall clock that is not the gradual adjustment by NTP."""


class StateReporter(Service):
    """The step that notes the state, and the service that publishes it.

    It publishes the state without faces at construction, then changes, at most once a second. It
    repeats the state as a heartbeat while the device is online.

    Args:
        topic: where to publish it.
        publish_retained: publishes a state until the next one; must not block.
        uncertain_below: confidence under which the dominant emotion is `uncertain`.
        heartbeat_s: maximum time between two messages.
        clock: the clock to use.
        is_closed: whether the camera is closed because of a pause.
        is_online: whether results come, which can be minutes apart, or the source is paused.
    """

    name = "state"
    is_hang_fatal = False

    def __init__(
        self,
        topic: str,
        publish_retained: Callable[[Message], None],
        uncertain_below: float,
        *,
        heartbeat_s: float,
        clock: Clock,
        is_closed: Callable[[], bool],
        is_online: Callable[[], bool],
    ) -> None:
        self._topic = topic
        self._publish_retained = publish_retained
        self._uncertain_below = uncertain_below
        self._heartbeat_s = heartbeat_s
        self._is_closed = is_closed
        self._is_online = is_online
        self._state = _State(0, "none", clock.now(), clock.now())
        self._wall_offset_s = clock.now().timestamp() - clock.monotonic()
        self._has_result = False
        self._published_pause = False
        self._publishing = threading.Lock()
        """Held while a message is built and passed on, so that the last one is the newest."""
        self._changed = threading.Event()
        self._stopping = threading.Event()
        # The broker may retain the faces of a run that was killed.
        self._publish()

    def __call__(self, result: FrameResult) -> FrameResult:
        """Note a result, and return it."""
        self._follow_wall_clock(result.frame)
        before, at = self._state, result.frame.captured_at
        probabilities = mean_probabilities(result.faces)
        emotion = dominant_emotion(probabilities, self._uncertain_below)
        since = before.since if emotion == before.emotion else at
        self._state = _State(len(result.faces), emotion, since, at, probabilities)
        if not self._has_result or (before.faces, before.emotion) != (len(result.faces), emotion):
            self._changed.set()
        self._has_result = True
        return result

    def finish(self) -> None:
        """Publish that no face is visible, after the last result, in the pipeline's thread.

        The service may already be stopping, so this does not leave it to `run`.
        """
        before = self._state
        since = before.since if before.emotion == "none" else before.at
        self._state = _State(0, "none", since, before.at)
        self._publish()

    def apply(self, settings: SmoothingSettings) -> None:
        """Change the limit of confidence."""
        self._uncertain_below = settings.uncertain_below

    def run(self, busy: Busy) -> None:
        """Publish the state until `stop` is called."""
        waited_s = 0.0
        while not self._stopping.is_set():
            is_heartbeat = waited_s >= self._heartbeat_s
            is_due = self._is_changed or (is_heartbeat and self._is_online())
            if is_due and not self._stopping.is_set():  # `stop` wakes it like a change
                with busy:
                    self._publish()
                self._stopping.wait(MIN_INTERVAL_S)
                waited_s = MIN_INTERVAL_S
            interval_s = min(CHECK_INTERVAL_S, self._heartbeat_s)
            if not self._changed.wait(interval_s):
                waited_s += interval_s

    def stop(self) -> None:
        self._stopping.set()
        self._changed.set()

    def _follow_wall_clock(self, frame: Frame) -> None:
        """Move `since` with the wall clock when it is set, such as at the first NTP sync."""
        if frame.position_s is not None:
            return  # times of a video do not follow the wall clock
        offset_s = frame.captured_at.timestamp() - frame.captured_monotonic_s
        jump_s, self._wall_offset_s = offset_s - self._wall_offset_s, offset_s
        if abs(jump_s) >= MIN_JUMP_S:
            since = self._state.since + timedelta(seconds=jump_s)
            self._state = replace(self._state, since=since)

    @property
    def _is_changed(self) -> bool:
        return self._changed.is_set() or self._is_closed() != self._published_pause

    def _publish(self) -> None:
        with self._publishing:
            self._changed.clear()
            self._published_pause = self._is_closed()
            state = self._state
            message = StateMessage(
                time=state.at,
                faces=state.faces,
                emotion=state.emotion,
                since=state.since,
                probabilities=None if state.probabilities is None else rounded(state.probabilities),
                paused=self._published_pause,
            )
            payload = message.model_dump_json(by_alias=True).encode()
            self._publish_retained(Message(self._topic, payload, retain=True, qos=1))


def mean_probabilities(faces: tuple[FaceEmotion, ...]) -> Probabilities | None:
    """Mean of the faces' probabilities [7], weighted by area; None without a scored face."""
    scored = [face for face in faces if face.probabilities is not None]
    if not scored:
        return None
    areas = [face.face.detection.box.width * face.face.detection.box.height for face in scored]
    return np.average([face.probabilities for face in scored], axis=0, weights=areas)


def dominant_emotion(
    probabilities: Probabilities | None, uncertain_below: float
) -> DominantEmotion:
    """The most probable emotion."""
    if probabilities is None:
        return "none"
    if probabilities.max() < uncertain_below:
        return "uncertain"
    return EMOTIONS[int(probabilities.argmax())]
