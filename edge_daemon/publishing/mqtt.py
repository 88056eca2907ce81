"""Results over MQTT 5, through paho: the only file that knows it.

The publisher is two things. As a step of the pipeline it hands messages to paho's queue; as a
service it owns the network thread, which connects, writes, and connects again. Telemetry is not
kept while the broker is away: it is dropped and counted.
"""

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from edge_daemon.backoff import backoff_delays
from edge_daemon.clock import Clock
from edge_daemon.publishing.messages import faces_payload
from edge_daemon.publishing.topics import Message
from edge_daemon.records import FrameResult

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 1.2
"""Seconds for the TCP connection: short enough that stopping need not wait for it."""

LOOP_INTERVAL: Final = 0.2
"""Seconds between two looks at the clock while the network is quiet."""

FAREWELL_TIMEOUT: Final = 0.8
"""Seconds in which the last messages must be out when the program ends."""

MOST_UNSENT: Final = 16
"""Messages that may wait in paho's queue, which itself knows no bound."""

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"


@dataclass(frozen=True)
class Broker:
    """Where to connect and as whom."""

    host: str
    port: int
    username: str | None
    password: str | None
    keepalive: int
    """Seconds."""


class MqttPublisher:
    """Publishes frames' results on `BASE/faces` and the daemon's presence on `BASE/availability`.

    Args:
        broker: where to connect.
        base_topic: what all topics begin with.
        client_id: stable, and no other client's.
        rate: results a second of the source's time at most; one with an event always goes.
        patient: wait for the broker rather than drop (for sources that lose nothing).
        clock: where the time is read.
    """

    name = "mqtt"

    def __init__(
        self,
        broker: Broker,
        base_topic: str,
        client_id: str,
        rate: float,
        *,
        patient: bool,
        clock: Clock,
    ) -> None:
        self.dropped = 0
        self._broker = broker
        self._availability = f"{base_topic}/availability"
        self._faces = f"{base_topic}/faces"
        self._interval = 1 / rate
        self._patient = patient
        self._clock = clock
        self._next_due = float("-inf")
        self._unsent: deque[paho.MQTTMessageInfo] = deque()
        self._kept: dict[str, Message] = {}
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._away_since: float | None = None
        self._client = self._make_client(client_id)

    def __call__(self, result: FrameResult) -> None:
        """Publish a result, if it is due."""
        if not (result.events or self._is_due(result.frame.stream_time)):
            return
        while not self._has_room():
            if not self._patient or self._stopping.is_set():
                self.dropped += 1
                return
            self._stopping.wait(LOOP_INTERVAL)
        self._unsent.append(self._client.publish(self._faces, faces_payload(result, self._clock)))

    def keep(self, message: Message) -> None:
        """Publish what is so until the next message on its topic, after every connect anew."""
        self._kept[message.topic] = message
        if self._connected.is_set():
            self._publish(message)

    def run(self) -> None:
        """Keep the connection until `stop` is called."""
        delays = backoff_delays()
        while not self._stopping.is_set():
            if self._serve_connection():
                delays = backoff_delays()
            self._stopping.wait(next(delays))
        self._say_goodbye()

    def stop(self) -> None:
        self._stopping.set()

    def _make_client(self, client_id: str) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        client.connect_timeout = CONNECT_TIMEOUT
        if self._broker.username is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        client.will_set(self._availability, OFFLINE, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        # With a callback here, publish() only queues and wakes the network thread, which alone
        # writes to the socket; without it, paho writes from whichever thread publishes.
        client.on_socket_register_write = lambda *_: None
        return client

    def _publish(self, message: Message) -> None:
        self._client.publish(message.topic, message.payload, message.qos, message.retain)

    def _is_due(self, stream_time: float) -> bool:
        if stream_time < self._next_due:
            return False
        # Counted from when it was due, not from when it came, so that the rate is kept on average.
        due = self._next_due + self._interval
        self._next_due = due if due > stream_time else stream_time + self._interval
        return True

    def _has_room(self) -> bool:
        while self._unsent and self._is_settled(self._unsent[0]):
            self._unsent.popleft()
        return self._connected.is_set() and len(self._unsent) < MOST_UNSENT

    def _is_settled(self, message: paho.MQTTMessageInfo) -> bool:
        """Whether a message is out, or was lost with its connection, which is a drop."""
        try:
            return message.is_published()
        except RuntimeError:  # paho's word for lost
            self.dropped += 1
            return True

    def _serve_connection(self) -> bool:
        """Connect and stay until the connection ends; tell whether the broker had accepted it."""
        accepted = False
        try:
            self._client.connect(self._broker.host, self._broker.port, self._broker.keepalive)
            while self._client.loop(LOOP_INTERVAL) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                accepted = accepted or self._connected.is_set()
                if self._stopping.is_set():
                    return accepted
        except OSError as error:
            self._tell_away(str(error))
        return accepted

    def _on_connect(
        self,
        client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        if reason.is_failure:
            self._tell_away(f"connection refused: {reason}")
            return
        client.publish(self._availability, ONLINE, qos=1, retain=True)
        self._connected.set()
        for message in tuple(self._kept.values()):
            self._publish(message)
        self._tell_connected()

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        self._connected.clear()
        if not self._stopping.is_set():
            self._tell_away(str(reason))

    def _say_goodbye(self) -> None:
        """Send what is queued, then the last availability, and close, also in mid-handshake."""
        if self._connected.is_set():
            self._send_farewell()
        self._client.disconnect()
        self._client.loop(LOOP_INTERVAL)

    def _send_farewell(self) -> None:
        farewell = self._client.publish(self._availability, OFFLINE, qos=1, retain=True)
        deadline = self._clock.monotonic() + FAREWELL_TIMEOUT
        while not farewell.is_published() and self._clock.monotonic() < deadline:
            if self._client.loop(LOOP_INTERVAL) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return

    def _tell_away(self, reason: str) -> None:
        """One line when the broker goes away, however often it is tried."""
        if self._away_since is None:
            self._away_since = self._clock.monotonic()
            logger.warning(
                "no connection to the broker, trying again",
                extra={"broker": self._address, "reason": reason},
            )

    def _tell_connected(self) -> None:
        fields: dict[str, object] = {"broker": self._address}
        if self._away_since is not None:
            fields["away_seconds"] = round(self._clock.monotonic() - self._away_since, 1)
            fields["dropped"] = self.dropped
            self._away_since = None
        logger.info("connected to the broker", extra=fields)

    @property
    def _address(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"
