"""A subscriber's connection, through paho, in the caller's own thread.

It subscribes anew after every reconnect. With MQTT 5 the broker keeps the session for a minute,
so that a blink of the network loses no event; a broker that only knows 3.1.1 is spoken to in
that.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from uuid import uuid4

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_daemon._lib.backoff import backoff_delays
from edge_daemon._lib.clock import Clock
from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.mqtt import no_mqtt
from edge_daemon.publishing.topics import Message

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for the TCP connection, and again for the broker's answers."""

SESSION_EXPIRY: Final = 60
"""Seconds for which the broker keeps the session while the connection is lost."""

FAREWELL_TIMEOUT: Final = 0.5
"""Seconds in which the goodbye must be out."""

UNSUPPORTED_VERSION: Final = 0x84
"""The reason code of a broker that does not know MQTT 5."""


class Subscription:
    """What is published on some topics, as it comes.

    Args:
        broker: where to connect.
        filters: the topics, with wildcards.
        tell: is given a line when the connection is lost, and when it is back.
        clock: where the time is read.
    """

    def __init__(
        self, broker: Broker, filters: Sequence[str], tell: Callable[[str], None], clock: Clock
    ) -> None:
        self.problem: str | None = None
        """Why there is no connection, while there is none."""
        self._broker = broker
        self._filters = [(one, 1) for one in filters]
        self._tell = tell
        self._clock = clock
        self._arrived: deque[Message] = deque()
        self._subscribed = False
        self._delays = backoff_delays()
        self._next_attempt = 0.0
        self._away_since: float | None = None
        self._client_id = f"edge-daemon-watch-{uuid4().hex[:12]}"
        self._client = self._make_client(
            paho.MQTTv311 if broker.protocol == "3.1.1" else paho.MQTTv5
        )

    def open(self) -> None:
        """Connect and subscribe.

        Raises:
            BrokerError: the broker cannot be reached, or refuses.
        """
        deadline = self._clock.monotonic() + 2 * CONNECT_TIMEOUT
        while not self._subscribed and self.problem is None:
            self._advance(0.1)
            if self._clock.monotonic() > deadline:
                self.problem = "no answer"
        if self.problem is not None:
            raise BrokerError(
                f"broker {self._broker.address}: {self.problem}; mqtt.host and mqtt.port say where "
                "it is, mqtt.username and mqtt.password_file as whom to log in"
            )

    def receive(self, seconds: float) -> Iterator[Message]:
        """What comes within a while; meanwhile a lost connection is made again."""
        deadline = self._clock.monotonic() + seconds
        while (left := deadline - self._clock.monotonic()) > 0:
            self._advance(left)
            while self._arrived:
                yield self._arrived.popleft()

    def close(self) -> None:
        """End the connection and the session."""
        self._client.on_disconnect = None
        if self._client.is_connected():
            is_5 = self._client.protocol == paho.MQTTv5
            ending = _expiry(PacketTypes.DISCONNECT, 0) if is_5 else None
            self._client.disconnect(properties=ending)
            self._client.loop(FAREWELL_TIMEOUT)
        _let_go(self._client)

    def _advance(self, seconds: float) -> None:
        """Take the connection's next packet, or make it anew; in this time at most."""
        if self._client.socket() is not None:
            self._exchange(seconds)
        elif (wait := self._next_attempt - self._clock.monotonic()) > 0:
            time.sleep(min(wait, seconds))
        else:
            self._next_attempt = self._clock.monotonic() + next(self._delays)
            self._connect()

    def _exchange(self, seconds: float) -> None:
        """Read and write; what comes need not be MQTT, and paho fails on that in many ways."""
        client = self._client
        try:
            client.loop(seconds)
        except Exception as error:  # noqa: BLE001
            _let_go(client)
            self._client = self._make_client(client.protocol)
            self._note_loss(no_mqtt(error))

    def _connect(self) -> None:
        try:
            self._client.reconnect()
        except (OSError, ValueError) as error:  # ValueError: no host can have this name
            self._note_loss(getattr(error, "strerror", None) or str(error))

    def _make_client(self, protocol: MQTTProtocolVersion) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=protocol)
        client.connect_timeout = CONNECT_TIMEOUT
        if self._broker.username is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        if self._broker.tls is not None:
            client.tls_set_context(self._broker.tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        where = (self._broker.host, self._broker.port, self._broker.keepalive)
        if protocol == paho.MQTTv5:
            # No session has this id yet, but mosquitto forgets one that began with a clean start.
            session = _expiry(PacketTypes.CONNECT, SESSION_EXPIRY)
            client.connect_async(*where, clean_start=False, properties=session)
        else:
            client.connect_async(*where)
        return client

    def _on_connect(
        self,
        client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        outdated = reason.value == UNSUPPORTED_VERSION and self._broker.protocol == "auto"
        if outdated and client.protocol == paho.MQTTv5:
            self._client = self._make_client(paho.MQTTv311)
            self._next_attempt = 0.0
        elif reason.is_failure:
            self._note_loss(f"connection refused: {reason}")
        else:
            client.subscribe(self._filters)

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: object,
    ) -> None:
        self._subscribed = True
        self._delays = backoff_delays()
        refused = {str(reason) for reason in reasons if reason.is_failure}
        if refused:
            self._tell(
                f"broker {self._broker.address} refuses topics: {', '.join(sorted(refused))}"
            )
        if self._away_since is not None:
            seconds = self._clock.monotonic() - self._away_since
            self._tell(f"broker {self._broker.address}: back after {seconds:.1f} s")
        self.problem = self._away_since = None

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._arrived.append(
            Message(message.topic, bytes(message.payload), message.retain, message.qos)
        )

    def _on_disconnect(
        self,
        client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        # A client left behind for its version has no say, nor has one whose refusal is noted.
        if client is self._client and self.problem is None:
            self._note_loss(f"connection lost: {reason}")

    def _note_loss(self, reason: str) -> None:
        """Remember why; one line when the connection is lost, however often it is tried."""
        self.problem = reason
        if self._subscribed and self._away_since is None:
            self._away_since = self._clock.monotonic()
            self._tell(f"broker {self._broker.address}: {reason}, trying again")


def _let_go(client: paho.Client) -> None:
    if (link := client.socket()) is not None:
        link.close()


def _expiry(packet: int, seconds: int) -> Properties:
    """How long the session outlives the connection."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = seconds
    return properties
