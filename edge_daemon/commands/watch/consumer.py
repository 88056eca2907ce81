"""The state of all devices by their messages, as a subscriber reads them.

This module uses neither the network nor the screen. It ignores duplicate events, reports gaps in
their numbers, and rejects messages with another schema: it counts all, and reports the first.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from edge_daemon.commands.watch.session import Session
from edge_daemon.publishing.subscription import (
    Availability,
    Content,
    Kind,
    RejectedError,
    device_and_kind,
    read,
)
from edge_daemon.publishing.topics import Message
from edge_daemon.records import EventKind, SourceState
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
        """Remember an id; whether it was new."""
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
    """On the monotonic clock."""
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
    reported_refusals: set[Kind] = field(default_factory=set)

    @property
    def paused(self) -> bool:
        """Whether the camera is closed by the privacy switch."""
        paused_by_health = self.health is not None and self.health.source is SourceState.PAUSED
        return self.state.paused if self.state is not None else paused_by_health

    @property
    def last_message_time(self) -> datetime | None:
        """The latest time in its messages."""
        known = (self.faces, self.state, self.health)
        return max((message.time for message in known if message is not None), default=None)

    def faces_now(self, now: float) -> tuple[FaceMessage, ...]:
        """The faces in sight; none of a device that is offline, paused or silent."""
        away = self.availability is Availability.OFFLINE or self.paused
        if self.faces is None or away or now - self.faces_arrived > FACES_FRESH:
            return ()
        return self.faces.faces


@dataclass(frozen=True)
class Accepted:
    """A new and valid message."""

    topic: str
    device: str
    kind: Kind
    retained: bool
    content: object
    """Its JSON, decoded; the word itself for `availability`."""


@dataclass(frozen=True)
class DeviceEvent:
    """An event and its device."""

    device: str
    event: EventMessage


class Consumer:
    """Reads messages and keeps the state of each device.

    Args:
        base: what all topics begin with.
        notify: receives a line about gaps, restarts and rejected messages.
    """

    def __init__(self, base: str, notify: Callable[[str], None]) -> None:
        self.devices: dict[str, Device] = {}
        self.session = Session()
        self.events: deque[DeviceEvent] = deque(maxlen=EVENTS_KEPT)
        self._base = base
        self._notify = notify

    def take(self, message: Message, now: float) -> Accepted | None:
        """Read a message that arrived at `now`, in monotonic seconds; None if it is left out."""
        place = device_and_kind(self._base, message.topic)
        if place is None or not message.payload:  # empty: a retained message was deleted
            return None
        name, kind = place
        device = self.devices.setdefault(name, Device(name))
        try:
            decoded, content = read(kind, message.payload)
        except RejectedError as error:
            self._reject(device, kind, str(error))
            return None
        if not self._keep(device, content, now):
            return None
        return Accepted(message.topic, name, kind, message.retain, decoded)

    def summary(self) -> str:
        """Counts of rejected, duplicate and missing messages in one line; empty without any."""
        counts = {
            "messages rejected": sum(device.refused for device in self.devices.values()),
            "duplicate events": sum(device.duplicates for device in self.devices.values()),
            "missing events": sum(device.missing for device in self.devices.values()),
        }
        return ", ".join(f"{what}: {count}" for what, count in counts.items() if count)

    def _keep(self, device: Device, content: Content, now: float) -> bool:
        """Keep the content of a message; whether it is new."""
        match content:
            case EventMessage():
                return self._take_event(device, content)
            case FacesMessage():
                self.session.add(content, now - device.faces_arrived, now)
                device.faces, device.faces_arrived = content, now
            case StateMessage():
                device.state = content
            case HealthMessage():
                device.health = content
            case Availability():
                device.availability = content
        return True

    def _take_event(self, device: Device, event: EventMessage) -> bool:
        if not device.event_ids.add(event.event_id):
            device.duplicates += 1
            return False
        self._count(device, event.sequence)
        self.events.append(DeviceEvent(device.name, event))
        self.session.visits += event.kind is EventKind.APPEARED
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

    def _reject(self, device: Device, kind: Kind, reason: str) -> None:
        device.refused += 1
        if kind not in device.reported_refusals:
            device.reported_refusals.add(kind)
            self._notify(f"{device.name}: {kind} rejected: {reason}")


def _range(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"
