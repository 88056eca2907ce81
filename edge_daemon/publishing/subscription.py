"""Subscribing to devices: the connection, and what their payloads mean."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import uuid4

from pydantic import ValidationError
from pydantic_core import from_json

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.validation import reason
from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import Broker, with_hint
from edge_daemon.publishing.client import Connected, Disconnected, MqttClient, Update
from edge_daemon.publishing.messages import (
    Availability,
    Message,
    MessageKind,
    Received,
    Subscribed,
)
from edge_daemon.schema import (
    SCHEMA_VERSION,
    EventMessage,
    FacesMessage,
    HealthMessage,
    StateMessage,
)

CONNECT_TIMEOUT_S: Final = 10.0
"""Limit on the first connection, until it is subscribed."""

MAX_DEVICES: Final = 100
"""Devices that a subscriber keeps."""

CONNECTING: Final = "not connected"
"""The problem of a subscription before its first attempt has ended."""


class Subscription:
    """What is published on some topics.

    Args:
        broker: where to connect.
        filters: the topics, with wildcards.
        notify: receives a line when the connection is lost, and when it is back.
        clock: the clock to use.
        role: part of the client ID, which is unique to this object.
        session_expiry_s: time for which the broker keeps the messages of a lost connection.
    """

    def __init__(
        self,
        broker: Broker,
        filters: Sequence[str],
        notify: Callable[[str], None],
        clock: Clock,
        *,
        role: str,
        session_expiry_s: int = 0,
    ) -> None:
        self.problem: str | None = CONNECTING
        """Why there is no connection; None while there is one."""
        self.refusals: tuple[str, ...] = ()
        """Why the broker refused topics."""
        self._filters = list(filters)
        self._notify = notify
        self._clock = clock
        self._is_open = False
        session_expiry = session_expiry_s if broker.protocol != "3.1.1" else 0
        self._client = MqttClient(
            replace(broker, session_expiry=session_expiry),
            f"edge-daemon-{role}-{uuid4().hex[:12]}",
            clock,
        )

    def open(self) -> None:
        """Connect and subscribe.

        Raises:
            BrokerError: the broker cannot be reached, or refuses.
        """
        deadline = self._clock.monotonic() + CONNECT_TIMEOUT_S
        reason = "no answer"
        while not self._is_open and self._clock.monotonic() < deadline:
            for update in self._client.poll(0.1):
                self._process(update)
                if isinstance(update, Disconnected):
                    reason, deadline = update.reason, self._clock.monotonic()
        if not self._is_open:
            raise BrokerError(f"broker {self._client.broker.address}: {with_hint(reason)}")

    def receive(self, seconds: float) -> Iterator[Message]:
        """What arrives within a time; a lost connection is restored in that time, too."""
        deadline = self._clock.monotonic() + seconds
        while (left := deadline - self._clock.monotonic()) > 0:
            for update in self._client.poll(left):
                self._process(update)
                if isinstance(update, Received):
                    yield Message(update.topic, update.payload, update.retained, update.qos)

    def close(self) -> None:
        """Close the connection, and end the session."""
        if (connection := self._client.connection) is not None:
            connection.disconnect(is_session_discarded=True)
        self._client.close()

    def _process(self, update: Update) -> None:
        address, connection = self._client.broker.address, self._client.connection
        match update:
            case Received() if connection is not None:
                connection.acknowledge(update)
            case Connected() if connection is not None:
                self.problem = None
                connection.subscribe(self._filters, with_retained=True)
                if update.away_s is not None and self._is_open:
                    self._notify(f"broker {address}: connected again after {update.away_s:.1f} s")
            case Subscribed():
                self._is_open = True
                self.refusals = update.refusals
                if update.refusals:
                    self._notify(f"broker {address} refuses topics: {', '.join(update.refusals)}")
            case Disconnected():
                self.problem = update.reason
                if update.is_new and self._is_open:
                    self._notify(f"broker {address}: {update.reason}, retrying")


Content = Availability | FacesMessage | EventMessage | StateMessage | HealthMessage
"""A decoded message."""

MODELS: Final[
    Mapping[MessageKind, type[FacesMessage | EventMessage | StateMessage | HealthMessage]]
] = {
    MessageKind.FACES: FacesMessage,
    MessageKind.EVENT: EventMessage,
    MessageKind.STATE: StateMessage,
    MessageKind.HEALTH: HealthMessage,
}


class RejectedError(Exception):
    """Raised when a payload is invalid; the message is the reason."""


def read(kind: MessageKind, payload: bytes) -> tuple[object, Content]:
    """The decoded payload, and its message.

    Raises:
        RejectedError: the payload is invalid, or has another schema.
    """
    if kind is MessageKind.AVAILABILITY:
        if payload not in {word.encode() for word in Availability}:
            raise RejectedError("must be online or offline")
        return payload.decode(), Availability(payload.decode())
    content = _decoded(payload)
    try:
        # Fields can be added without a new schema version, so unknown ones are ignored.
        return content, MODELS[kind].model_validate_json(payload, extra="ignore")
    except ValidationError as error:
        details = error.errors()[0]
        where = ".".join(map(str, details["loc"]))
        raise RejectedError(f"{where}: {reason(details)}") from error


def _decoded(payload: bytes) -> dict[str, object]:
    try:
        content = from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise RejectedError(f"not JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise RejectedError("not an object with a schema number")
    if content["schema"] != SCHEMA_VERSION:
        raise RejectedError(f"unknown schema {content['schema']}; update edge-daemon")
    return content
