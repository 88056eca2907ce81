"""A subscriber's connection, in the caller's own thread.

With MQTT 5 the broker keeps the session for a minute, so that a short loss of the network loses no
event.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final
from uuid import uuid4

from edge_daemon._lib.clock import Clock
from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.client import Connected, Disconnected, MqttClient, Update
from edge_daemon.publishing.mqtt import Received, Subscribed
from edge_daemon.publishing.topics import Message

CONNECT_TIMEOUT_S: Final = 10.0
"""Limit on the first connection, until it is subscribed."""

SESSION_EXPIRY_S: Final = 60
"""Time for which the broker keeps the session while the connection is lost."""


class Subscription:
    """What is published on some topics.

    Args:
        broker: where to connect.
        filters: the topics, with wildcards.
        notify: receives a line when the connection is lost, and when it is back.
        clock: the clock to use.
    """

    def __init__(
        self, broker: Broker, filters: Sequence[str], notify: Callable[[str], None], clock: Clock
    ) -> None:
        self.problem: str | None = "not connected"
        """Why there is no connection; None while there is one."""
        self._filters = list(filters)
        self._notify = notify
        self._clock = clock
        self._is_open = False
        session = SESSION_EXPIRY_S if broker.protocol != "3.1.1" else 0
        self._client = MqttClient(
            replace(broker, session_expiry=session),
            f"edge-daemon-watch-{uuid4().hex[:12]}",
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
            raise BrokerError(
                f"broker {self._client.broker.address}: {reason}; check mqtt.host and mqtt.port, "
                "mqtt.username and mqtt.password_file"
            )

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
                if update.refusals:
                    self._notify(f"broker {address} refuses topics: {', '.join(update.refusals)}")
            case Disconnected():
                self.problem = update.reason
                if update.is_new and self._is_open:
                    self._notify(f"broker {address}: {update.reason}, retrying")
