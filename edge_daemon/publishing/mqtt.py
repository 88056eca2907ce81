"""One connection to the broker, through paho: the only file that knows it.

A connection is used once and by one thread; for the next one there is a new object. So nothing
that paho remembers outlives a connection, and what is sent again is decided in one place, by the
outbox.
"""

import contextlib
import logging
import select
import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from typing import Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_daemon.errors import in_one_line
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.topics import Message

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for each step of opening a connection."""

MOST_UNACKNOWLEDGED: Final = 20
"""Messages under way at most, unless the broker wants fewer."""

LARGEST_PACKET: Final = 64 * 1024
"""Bytes that the broker may send in one message (MQTT 5)."""

UNSUPPORTED_VERSION: Final = "Unsupported protocol version"
TAKEN_OVER: Final = "Session taken over"
UNSPECIFIED: Final = "Unspecified error"
UNHEARD: Final = "No matching subscribers"
"""MQTT 5's names of reasons."""


class ConnectionEnded(Exception):
    """Raised when there is no connection, or no more; the message says why."""


class HungUp(ConnectionEnded):
    """Raised when the other end closed the connection, and gave no reason."""


class VersionRefused(ConnectionEnded):
    """Raised when the broker does not speak the version of MQTT."""


class TakenOver(ConnectionEnded):
    """Raised when another client with the same id has connected."""


class Reception(Enum):
    """What became of a message that was sent."""

    ACCEPTED = "accepted"
    UNHEARD = "unheard"
    """Accepted, but nobody has subscribed to it now (MQTT 5)."""
    REFUSED = "refused"


@dataclass(frozen=True)
class Accepted:
    """The broker has let us in."""


@dataclass(frozen=True)
class Acknowledged:
    """The broker has answered to a message with QoS 1."""

    number: int
    """As `Connection.publish` returned it."""
    topic: str
    reception: Reception
    reason: str


@dataclass(frozen=True)
class Received:
    """Someone has sent something to us."""

    topic: str
    payload: bytes
    retained: bool
    """Whether it was not sent just now, but kept by the broker."""


Happening = Accepted | Acknowledged | Received


def no_mqtt(error: Exception) -> str:
    """What is said of an end on which paho failed."""
    return f"what came is no MQTT: {in_one_line(error)}"


class Connection:
    """A connection, from the look-up of the broker's name to its end.

    Args:
        broker: where to connect.
        client_id: who we are.
        version: of MQTT.
        will: what the broker is to publish when we are gone without a goodbye, if anything.
    """

    def __init__(self, broker: Broker, client_id: str, version: str, will: Message | None) -> None:
        self.accepted = False
        self._broker = broker
        self._client_id = client_id
        self._unacknowledged: dict[int, str] = {}
        self._most_unacknowledged = MOST_UNACKNOWLEDGED
        self._happenings: list[Happening] = []
        self._ended: ConnectionEnded | None = None
        self._trouble = ""
        self._bell, self._ear = socket.socketpair()
        self._bell.settimeout(0)
        self._ear.settimeout(0)
        self._is_5 = version == "5"
        self._client = self._make_client(will)

    def open(self) -> None:
        """Look up the name, connect, encrypt: each may take long.

        Raises:
            ConnectionEnded: it did not work.
        """
        broker = self._broker
        afresh = broker.session_expiry == 0 if self._is_5 else paho.MQTT_CLEAN_START_FIRST_ONLY
        try:
            self._client.connect(
                broker.host,
                broker.port,
                broker.keepalive,
                clean_start=afresh,
                properties=self._session(),
            )
        except ssl.SSLCertVerificationError as error:
            raise ConnectionEnded(f"certificate refused: {error.verify_message}") from error
        except (OSError, ValueError) as error:  # ValueError: no host can have this name
            raise ConnectionEnded(str(error)) from error

    def turn(self, timeout: float) -> list[Happening]:
        """Read and write what can be; wait for something to do, but not for long.

        Raises:
            ConnectionEnded: the connection is no more.
        """
        if self._ended is None:
            self._wait(timeout)
            self._exchange()
        happenings, self._happenings = self._happenings, []
        if happenings:
            return happenings
        if self._ended is None and self._client.socket() is None:
            self._end("connection lost")
        if self._ended is not None:
            raise self._ended
        return []

    def wake(self) -> None:
        """End the waiting in `turn` at once; called from other threads."""
        with contextlib.suppress(OSError):  # closed, or rung already
            self._bell.send(b"!")

    @property
    def room(self) -> int:
        """How many messages with QoS 1 may be sent now."""
        return self._most_unacknowledged - len(self._unacknowledged)

    @property
    def idle(self) -> bool:
        """Whether all that was published has been handed to the network."""
        return not self._client.want_write()

    def publish(self, message: Message) -> int:
        """Send a message; the number by which it will be acknowledged, if with QoS 1."""
        sent = self._client.publish(message.topic, message.payload, message.qos, message.retain)
        if message.qos:
            self._unacknowledged[sent.mid] = message.topic
        return sent.mid

    def subscribe(self, topics: list[str]) -> None:
        """Ask for what is sent to some topics from now on."""
        if self._is_5:
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            self._client.subscribe([(topic, options) for topic in topics])
        else:
            self._client.subscribe([(topic, 1) for topic in topics])

    def disconnect(self) -> None:
        """Take leave of the broker, which then forgets the last will."""
        self._client.disconnect()

    def close(self) -> None:
        """Let go of the sockets; without a leave, the broker publishes the last will."""
        client = self._client
        client.on_connect = client.on_disconnect = client.on_publish = None
        client.on_message = client.on_subscribe = client.on_log = None
        if (link := client.socket()) is not None:
            link.close()
        self._bell.close()
        self._ear.close()

    def _make_client(self, will: Message | None) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self._is_5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if self._is_5 else self._broker.session_expiry == 0,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT
        client.max_inflight_messages_set(0)  # the bound is ours: see `room`
        if self._broker.username is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        if self._broker.tls is not None:
            client.tls_set_context(self._broker.tls)
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain, self._will_delay())
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log
        return client

    def _session(self) -> Properties | None:
        if not self._is_5:
            return None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._broker.session_expiry
        properties.MaximumPacketSize = LARGEST_PACKET
        return properties

    def _will_delay(self) -> Properties | None:
        if not self._is_5:
            return None
        properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        properties.WillDelayInterval = self._broker.will_delay
        return properties

    def _wait(self, timeout: float) -> None:
        """Until there is something to read or write, or `wake` is called."""
        link = self._client.socket()
        if link is None:
            return
        pending = getattr(link, "pending", lambda: 0)()  # read from the network, still encrypted
        writing = [link] if self._client.want_write() else []
        select.select([link, self._ear], writing, [], 0 if pending else timeout)
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)

    def _exchange(self) -> None:
        """Read and write; what comes need not be MQTT, and paho fails on that in many ways."""
        try:
            self._client.loop_read()
            self._client.loop_write()
            self._client.loop_misc()
        except Exception as error:  # noqa: BLE001
            self._end(no_mqtt(error))

    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            kind = VersionRefused if str(reason) == UNSUPPORTED_VERSION else ConnectionEnded
            self._end(f"connection refused: {reason}", kind)
            return
        wanted = getattr(properties, "ReceiveMaximum", MOST_UNACKNOWLEDGED)
        self._most_unacknowledged = min(wanted, MOST_UNACKNOWLEDGED)
        self.accepted = True
        self._happenings.append(Accepted())

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        if str(reason) == TAKEN_OVER:
            self._end(str(reason), TakenOver)
        elif str(reason) != UNSPECIFIED or flags.is_disconnect_packet_from_server:
            self._end(str(reason))
        elif self.accepted or not self._is_5:
            self._end(self._trouble or "the broker hung up", HungUp)
        else:
            hint = "if it knows only MQTT 3.1.1, set mqtt.protocol to that"
            self._end(self._trouble or f"the broker hung up without an answer; {hint}", HungUp)

    def _on_publish(
        self,
        _client: paho.Client,
        _data: object,
        number: int,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        """Called for messages with QoS 0, too, once they are written."""
        topic = self._unacknowledged.pop(number, None)
        if topic is None:
            return
        reception = Reception.UNHEARD if str(reason) == UNHEARD else Reception.ACCEPTED
        if reason.is_failure:
            reception = Reception.REFUSED
        self._happenings.append(Acknowledged(number, topic, reception, str(reason)))

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        received = Received(message.topic, bytes(message.payload), retained=message.retain)
        self._happenings.append(received)

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: object,
        _number: int,
        reasons: list[ReasonCode],
        _properties: object,
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                logger.warning(
                    "the broker refused a subscription; commands may not come",
                    extra={"broker": self._broker.address, "reason": str(reason)},
                )

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        """Keep what paho says of an error: it tells more than the reason that comes after it."""
        if level == paho.MQTT_LOG_ERR:
            self._trouble = text

    def _end(self, reason: str, kind: type[ConnectionEnded] = ConnectionEnded) -> None:
        """The first reason counts: others follow from it."""
        self._ended = self._ended or kind(reason)
