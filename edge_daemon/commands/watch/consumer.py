"""The state of all devices by their messages, as a subscriber reads them.

This module uses neither the network nor the screen. It ignores duplicate events, reports gaps in
their numbers, and rejects messages with another schema: it counts all, and reports the first.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Final
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import from_json

from edge_daemon._lib.validation import reason
from edge_daemon.publishing.topics import Message, Topics
from edge_daemon.records import SourceState
from edge_daemon.schema import (
    SCHEMA_VERSION,
    EventMessage,
    FaceMessage,
    FacesMessage,
    HealthMessage,
    StateMessage,
)

DEVICE_ID: Final = re.compile(r"[A-Za-z0-9_-]+")

IDS_REMEMBERED: Final = 1000
"""Events of a device within which one that comes twice is recognised."""

EVENTS_KEPT: Final = 100
"""Of all devices together."""

FACES_FRESH: Final = 15.0
"""Seconds for which faces count as in sight when no further message comes."""


class Kind(StrEnum):
    """What a message is about: the last level of its topic."""

    AVAILABILITY = "availability"
    FACES = "faces"
    EVENT = "event"
    STATE = "state"
    HEALTH = "health"


class Availability(StrEnum):
    """The payloads of the topic `availability`."""

    ONLINE = "online"
    OFFLINE = "offline"


Content = Availability | FacesMessage | EventMessage | StateMessage | HealthMessage
"""A decoded message."""

MODELS: Final[Mapping[Kind, type[FacesMessage | EventMessage | StateMessage | HealthMessage]]] = {
    Kind.FACES: FacesMessage,
    Kind.EVENT: EventMessage,
    Kind.STATE: StateMessage,
    Kind.HEALTH: HealthMessage,
}


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
    faces_arrived: float = 0.0
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


class _RefusedError(Exception):
    """Raised when a payload is invalid."""


class Consumer:
    """Reads messages and keeps the state of each device.

    Args:
        base: what all topics begin with.
        notify: receives a line about gaps, restarts and rejected messages.
    """

    def __init__(self, base: str, notify: Callable[[str], None]) -> None:
        self.devices: dict[str, Device] = {}
        self.events: deque[DeviceEvent] = deque(maxlen=EVENTS_KEPT)
        self._prefix = f"{base}/"
        self._notify = notify

    def take(self, message: Message, now: float) -> Accepted | None:
        """Read a message that arrived at `now`, in monotonic seconds; None if it is left out."""
        place = self._place(message.topic)
        if place is None or not message.payload:  # empty: a retained message was deleted
            return None
        name, kind = place
        device = self.devices.setdefault(name, Device(name))
        try:
            decoded, content = _read(kind, message.payload)
        except _RefusedError as refusal:
            self._refuse(device, kind, str(refusal))
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

    def _place(self, topic: str) -> tuple[str, Kind] | None:
        """The device and the kind; None for other topics."""
        name, _, kind = topic.removeprefix(self._prefix).partition("/")
        if not topic.startswith(self._prefix) or kind not in list(Kind):
            return None
        return (name, Kind(kind)) if DEVICE_ID.fullmatch(name) else None

    def _keep(self, device: Device, content: Content, now: float) -> bool:
        """Keep the content of a message; whether it is new."""
        match content:
            case EventMessage():
                return self._take_event(device, content)
            case FacesMessage():
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

    def _refuse(self, device: Device, kind: Kind, why: str) -> None:
        device.refused += 1
        if kind not in device.reported_refusals:
            device.reported_refusals.add(kind)
            self._notify(f"{device.name}: {kind} rejected: {why}")


def filters(base: str, devices: Sequence[str]) -> list[str]:
    """The topic filters for all messages of these devices; of all devices, if there are none."""
    topics = (Topics(base, name) for name in devices or ["+"])
    return list(chain.from_iterable(map(_published, topics)))


def _published(topics: Topics) -> Iterator[str]:
    yield from (topics.availability, topics.faces, topics.event, topics.state, topics.health)


def _read(kind: Kind, payload: bytes) -> tuple[object, Content]:
    """The decoded payload, and its message."""
    if kind is Kind.AVAILABILITY:
        if payload not in {word.encode() for word in Availability}:
            raise _RefusedError("must be online or offline")
        return payload.decode(), Availability(payload.decode())
    content = _decoded(payload)
    try:
        # Fields can be added without a new schema version, so unknown ones are ignored.
        return content, MODELS[kind].model_validate_json(payload, extra="ignore")
    except ValidationError as error:
        details = error.errors()[0]
        where = ".".join(map(str, details["loc"]))
        raise _RefusedError(f"{where}: {reason(details)}") from error


def _decoded(payload: bytes) -> dict[str, object]:
    try:
        content = from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise _RefusedError(f"not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise _RefusedError("not an object with a schema number")
    if content["schema"] != SCHEMA_VERSION:
        raise _RefusedError(
            f"schema {content['schema']} is unknown here; a newer edge-daemon may know it"
        )
    return content


def _range(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"
