"""The state of all devices by their messages, as a subscriber reads them.

This module uses neither the network nor the screen. It ignores duplicate events, reports gaps in
their numbers, and rejects messages with another schema: it counts all, and reports the first.
The number of devices is limited, since anyone who may publish could add more.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from edge_daemon._lib.clock import FrameTimer, HeldFrame
from edge_daemon.publishing.messages import Availability, Message, MessageKind, device_and_kind
from edge_daemon.publishing.subscription import MAX_DEVICES, Content, RejectedError, read
from edge_daemon.records import (
    EMOTIONS,
    FACE_LABELS,
    EventKind,
    FaceLabel,
    SourceState,
    face_label,
)
from edge_daemon.schema import (
    EventMessage,
    FaceMessage,
    FacesMessage,
    HealthMessage,
    StateMessage,
)

IDS_REMEMBERED: Final = 1000
"""Events of a device within which one that comes twice is recognised."""

EVENTS_KEPT: Final = 300
"""Of all devices together."""

FACES_FRESH: Final = 15.0
"""Seconds for which faces count as in sight when no further message comes."""


class RecentIds:
    """Remembers the latest ids, and no more than that."""

    def __init__(self, most: int = IDS_REMEMBERED) -> None:
        self._order: deque[UUID] = deque(maxlen=most)
        self._known: set[UUID] = set()

    def add(self, event_id: UUID) -> bool:
        """Remember an ID, and return whether it was new."""
        if event_id in self._known:
            return False
        if len(self._order) == self._order.maxlen:
            self._known.discard(self._order[0])
        self._order.append(event_id)
        self._known.add(event_id)
        return True


@dataclass
class Device:
    """What is known of one device."""

    name: str
    availability: Availability | None = None
    faces: FacesMessage | None = None
    faces_arrived: float = float("-inf")
    """On the monotonic clock; -inf before the first since the device was offline or paused."""
    timer: FrameTimer[list[FaceLabel]] = field(default_factory=FrameTimer)
    """Finds how long the faces of each message count."""
    state: StateMessage | None = None
    health: HealthMessage | None = None
    sequence: int | None = None
    """Of its latest event."""
    duplicates: int = 0
    """Events received more than once."""
    missing: int = 0
    """Events not received."""
    refused: int = 0
    """Messages with another schema."""
    event_ids: RecentIds = field(default_factory=RecentIds)
    reported_refusals: set[MessageKind] = field(default_factory=set)

    @property
    def paused(self) -> bool:
        """Whether the camera is closed by the privacy switch."""
        paused_by_health = self.health is not None and self.health.source is SourceState.PAUSED
        return self.state.paused if self.state is not None else paused_by_health

    @property
    def is_away(self) -> bool:
        """Whether the device is offline or paused."""
        return self.availability is Availability.OFFLINE or self.paused

    @property
    def last_message_time(self) -> datetime | None:
        """The latest time in its messages."""
        known = (self.faces, self.state, self.health)
        return max((message.time for message in known if message is not None), default=None)

    def faces_now(self, now: float) -> tuple[FaceMessage, ...]:
        """The faces in sight; none of a device that is offline, paused or silent."""
        if self.faces is None or self.is_away or now - self.faces_arrived > FACES_FRESH:
            return ()
        return self.faces.faces


@dataclass(frozen=True)
class ValidMessage:
    """A new and valid message."""

    topic: str
    device: str
    kind: MessageKind
    retained: bool
    content: object
    """Its JSON, decoded; the word itself for `availability`."""


@dataclass(frozen=True)
class DeviceEvent:
    """An event and its device."""

    device: str
    event: EventMessage


BIN_S: Final = 5.0
"""Length of a step of the history."""

MAX_BINS: Final = 240
"""Steps kept: 20 minutes."""


def _no_time() -> dict[str, float]:
    return dict.fromkeys(FACE_LABELS, 0.0)


@dataclass
class WatchTotals:
    """Totals since `watch` started: visits, and the time of all faces by label."""

    visits: int = 0
    """Faces that appeared."""
    face_seconds: dict[str, float] = field(default_factory=_no_time)
    """Time of all faces by label."""
    _bins: dict[int, dict[str, float]] = field(default_factory=dict)
    """By the number of each step, the time of all faces in it; steps without faces are absent."""

    @property
    def total_s(self) -> float:
        """Time of all faces together."""
        return sum(self.face_seconds.values())

    def share(self, emotion: str) -> float:
        """An emotion's share of the time of all faces, 0 to 1."""
        total_s = self.total_s
        return self.face_seconds[emotion] / total_s if total_s else 0.0

    def most_frequent(self, count: int) -> list[str]:
        """The emotions with the largest shares, in the usual order."""
        by_time = sorted(EMOTIONS, key=self.face_seconds.__getitem__, reverse=True)
        return [name for name in EMOTIONS if name in by_time[:count]]

    def add(self, held: HeldFrame[list[FaceLabel]] | None) -> None:
        """Add the faces of a device's message, whose duration is now known."""
        if held is None or not held.content:
            return
        seconds = self._bins.setdefault(int(held.start_s // BIN_S), _no_time())
        for label in held.content:
            self.face_seconds[label] += held.seconds
            seconds[label] += held.seconds
        if len(self._bins) > MAX_BINS:
            del self._bins[min(self._bins)]

    def history(self, now: float, steps: int) -> dict[str, list[float]]:
        """By label, the mean number of faces in each of the latest steps, oldest first."""
        first = int(now // BIN_S) - steps + 1
        means: dict[str, list[float]] = {label: [0.0] * steps for label in FACE_LABELS}
        for number, seconds in self._bins.items():
            if first <= number < first + steps:
                for name, value in seconds.items():
                    means[name][number - first] = value / BIN_S
        return means


class Consumer:
    """Reads messages and keeps the state of each device.

    Args:
        base: what all topics begin with.
        notify: receives a line about gaps, restarts and rejected messages.
        max_devices: how many devices to keep; messages of others are passed on only.
    """

    def __init__(
        self, base: str, notify: Callable[[str], None], max_devices: int = MAX_DEVICES
    ) -> None:
        self.devices: dict[str, Device] = {}
        self.totals = WatchTotals()
        self.events: deque[DeviceEvent] = deque(maxlen=EVENTS_KEPT)
        self._base = base
        self._notify = notify
        self._max_devices = max_devices
        self._is_full = False

    def take(self, message: Message, now: float) -> ValidMessage | None:
        """Read a message that arrived at `now`, in monotonic seconds; None if it is left out."""
        topic_parts = device_and_kind(self._base, message.topic)
        if topic_parts is None or not message.payload:  # empty: a retained message was deleted
            return None
        name, kind = topic_parts
        device = self._device(name)
        try:
            decoded, content = read(kind, message.payload)
        except RejectedError as error:
            if device is not None:
                self._reject(device, kind, str(error))
            return None
        if device is not None and not self._keep(device, content, now):
            return None
        return ValidMessage(message.topic, name, kind, message.retain, decoded)

    def summary(self) -> str:
        """Counts of rejected, duplicate and missing messages in one line; empty without any."""
        counts = {
            "messages rejected": sum(device.refused for device in self.devices.values()),
            "duplicate events": sum(device.duplicates for device in self.devices.values()),
            "missing events": sum(device.missing for device in self.devices.values()),
        }
        return ", ".join(f"{what}: {count}" for what, count in counts.items() if count)

    def _device(self, name: str) -> Device | None:
        """The device of this name; None if there is no room for it."""
        if name not in self.devices:
            if len(self.devices) >= self._max_devices:
                if not self._is_full:
                    self._is_full = True
                    self._notify(
                        f"more than {self._max_devices} devices; others are not shown and not "
                        "checked for gaps and duplicates; name the devices to watch"
                    )
                return None
            self.devices[name] = Device(name)
        return self.devices[name]

    def _keep(self, device: Device, content: Content, now: float) -> bool:
        """Keep the content of a message; whether it is new."""
        match content:
            case EventMessage():
                return self._take_event(device, content)
            case FacesMessage():
                if not device.is_away:
                    self.totals.add(device.timer.next(now, _labels_of(content)))
                device.faces, device.faces_arrived = content, now
            case StateMessage():
                device.state = content
            case HealthMessage():
                device.health = content
            case Availability():
                device.availability = content
        if device.is_away:
            self.totals.add(device.timer.end())
            device.faces_arrived = -math.inf
        return True

    def _take_event(self, device: Device, event: EventMessage) -> bool:
        if not device.event_ids.add(event.event_id):
            device.duplicates += 1
            return False
        self._count(device, event.sequence)
        self.events.append(DeviceEvent(device.name, event))
        self.totals.visits += event.kind is EventKind.APPEARED
        return True

    def _count(self, device: Device, sequence: int) -> None:
        """Check that a device's sequence numbers have no gap."""
        expected = sequence if device.sequence is None else device.sequence + 1
        device.sequence = sequence
        if sequence > expected:
            device.missing += sequence - expected
            self._notify(f"{device.name}: {_range(expected, sequence - 1)} missing")
        elif sequence < expected:
            self._notify(f"{device.name}: event count restarted at {sequence}")

    def _reject(self, device: Device, kind: MessageKind, reason: str) -> None:
        device.refused += 1
        if kind not in device.reported_refusals:
            device.reported_refusals.add(kind)
            self._notify(f"{device.name}: {kind} rejected: {reason}")


def _labels_of(message: FacesMessage) -> list[FaceLabel]:
    return [face_label(face.emotion, uncertain=face.uncertain) for face in message.faces]


def _range(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"
