"""What the modules here pass on: topics, messages, the broker's responses, and their reasons.

No library of MQTT is imported here, so that only `mqtt` depends on one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Literal

from edge_daemon._lib.validation import is_device_id

Version = Literal["5", "3.1.1"]

UNSUPPORTED_VERSION: Final = 0x84
NOT_AUTHORIZED: Final = 0x87
SESSION_TAKEN_OVER: Final = 0x8E
QUOTA_EXCEEDED: Final = 0x97
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B
UNSPECIFIED: Final = 0x80
NO_MATCHING_SUBSCRIBERS: Final = 0x10
"""Reason codes of MQTT 5; paho translates those of 3.1.1."""


@dataclass(frozen=True)
class Message:
    """A payload and how to deliver it."""

    topic: str
    payload: bytes
    retain: bool = False
    qos: int = 0


@dataclass(frozen=True)
class Topics:
    """The topics of one device."""

    base: str
    device_id: str

    @property
    def availability(self) -> str:
        return f"{self.base}/{self.device_id}/availability"

    @property
    def faces(self) -> str:
        return f"{self.base}/{self.device_id}/faces"

    @property
    def event(self) -> str:
        return f"{self.base}/{self.device_id}/event"

    @property
    def state(self) -> str:
        return f"{self.base}/{self.device_id}/state"

    @property
    def health(self) -> str:
        return f"{self.base}/{self.device_id}/health"

    @property
    def check(self) -> str:
        """Where `edge-daemon check` tests the right to publish."""
        return f"{self.base}/{self.device_id}/check"

    @property
    def set_paused(self) -> str:
        return f"{self.base}/{self.device_id}/set/paused"


class MessageKind(StrEnum):
    """What a message is about: the last level of its topic."""

    AVAILABILITY = "availability"
    FACES = "faces"
    EVENT = "event"
    STATE = "state"
    HEALTH = "health"


def topic_filters(
    base: str, devices: Sequence[str] = (), kinds: Iterable[MessageKind] = MessageKind
) -> list[str]:
    """The topic filters for messages of these devices; of all devices, if there are none."""
    return [f"{base}/{name}/{kind}" for name in devices or ["+"] for kind in kinds]


def device_and_kind(base: str, topic: str) -> tuple[str, MessageKind] | None:
    """What a topic is about; None for topics that no device publishes on."""
    prefix = f"{base}/"
    name, _, kind = topic.removeprefix(prefix).partition("/")
    if not topic.startswith(prefix) or kind not in list(MessageKind):
        return None
    return (name, MessageKind(kind)) if is_device_id(name) else None


class Availability(StrEnum):
    """The payloads of the topic `availability`."""

    ONLINE = "online"
    OFFLINE = "offline"


class ConnectionEnded(Exception):
    """Raised when there is no connection, or no longer; the message is the reason."""


class ConnectionRefused(ConnectionEnded):
    """Raised when the broker refuses the connection; `code` is MQTT 5's reason code."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class ClosedByPeer(ConnectionEnded):
    """Raised when the peer closes the connection without a reason."""


class TakenOver(ConnectionEnded):
    """Raised when another client with the same ID has connected."""


class PacketTooLarge(ConnectionEnded):
    """Raised when a packet from the broker exceeds MAX_RECEIVED_BYTES."""


class CannotPublish(Exception):
    """Raised when a message exceeds the broker's limits; the message is the reason."""


class PublishOutcome(Enum):
    """The broker's response to a published message."""

    ACCEPTED = "accepted"
    NO_SUBSCRIBERS = "no subscribers"
    """Accepted, without a current subscriber (MQTT 5)."""
    REFUSED = "refused"


@dataclass(frozen=True)
class Limits:
    """What the broker accepts, by its CONNACK."""

    max_packet_bytes: int | None = None
    max_qos: int = 2
    retain_available: bool = True


@dataclass(frozen=True)
class ConnectionAccepted:
    """The broker has accepted the connection."""

    limits: Limits


@dataclass(frozen=True)
class Acknowledged:
    """The broker has responded to a message with QoS 1."""

    packet_id: int
    """As `Connection.publish` returned it."""
    topic: str
    outcome: PublishOutcome
    code: int
    reason: str


@dataclass(frozen=True)
class Subscribed:
    """The broker has responded to a subscription."""

    refusals: tuple[str, ...]
    """The topics that it refused, each with the reason."""


@dataclass(frozen=True)
class Received:
    """A message from the broker. Each needs a call of `Connection.acknowledge`."""

    topic: str
    payload: bytes
    retained: bool
    """Whether the broker had stored it, so that it was sent some time ago."""
    qos: int = 0
    packet_id: int = 0


Notification = ConnectionAccepted | Acknowledged | Subscribed | Received


@dataclass(frozen=True)
class ConnectOptions:
    """How to connect: what changes from one connection to the next."""

    version: Version = "5"
    will: Message | None = None
    is_session_discarded: bool = False
    """Whether the broker must delete the session, with the messages in it."""
