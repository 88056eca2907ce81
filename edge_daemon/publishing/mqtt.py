"""One connection to an MQTT broker, over paho: the only module that imports it.

A connection is used once, by one thread. The next connection is a new object, so no state of paho
outlives a connection.
"""

import contextlib
import logging
import select
import socket
import ssl
from collections import deque
from typing import Final, Literal

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_daemon._lib.clock import Clock
from edge_daemon.errors import in_one_line
from edge_daemon.publishing.broker import Broker, Transport
from edge_daemon.publishing.messages import (
    NO_MATCHING_SUBSCRIBERS,
    SESSION_TAKEN_OVER,
    UNSPECIFIED,
    Acknowledged,
    CannotPublish,
    ClosedByPeer,
    ConnectionAccepted,
    ConnectionEnded,
    ConnectionRefused,
    ConnectOptions,
    Limits,
    Message,
    Notification,
    PacketTooLarge,
    PublishOutcome,
    Received,
    Subscribed,
    TakenOver,
)

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
"""Limit on each step of opening a connection."""

ACK_TIMEOUT_S: Final = 30.0
"""Limit on the time until the broker acknowledges a message or a subscription."""

MAX_UNACKNOWLEDGED: Final = 20
"""Messages in flight, unless the broker allows fewer."""

MAX_RECEIVED_UNACKNOWLEDGED: Final = 20
"""Messages in flight to this client (MQTT 5)."""

MAX_RECEIVED_BYTES: Final = 64 * 1024
"""Size of a packet from the broker. MQTT 5 announces it; a larger one ends the connection."""


PACKET_TOO_LARGE: Final = 0x95
IMPLEMENTATION_ERROR: Final = 0x83


class _Client(paho.Client):
    """paho's client, with three guards that need its internals."""

    def __init__(
        self, client_id: str, transport: Transport, *, is_5: bool, clean_session: bool | None
    ) -> None:
        self.unacknowledged: dict[int, tuple[str, float]] = {}
        """Topics and send times by packet identifier."""
        self.too_large: set[int] = set()
        """Packet identifiers of messages that exceed a limit of the broker."""
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
            clean_session=clean_session,
            transport=transport,
            reconnect_on_failure=False,
            manual_ack=True,
        )

    def _sock_recv(self, bufsize: int) -> bytes:
        """Refuse a packet by the length in its fixed header, before it takes memory."""
        if bufsize > MAX_RECEIVED_BYTES:
            raise PacketTooLarge(f"the broker sent a packet of {bufsize} bytes")
        return super()._sock_recv(bufsize)

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """Accept a code that is not for PUBACK but comes from mosquitto: paho would disconnect."""
        packet = self._in_packet["packet"]
        if packet[2:3] == bytes([PACKET_TOO_LARGE]):
            self.too_large.add(int.from_bytes(packet[:2]))
            self._in_packet["packet"] = packet[:2] + bytes([IMPLEMENTATION_ERROR]) + packet[3:]
        return super()._handle_pubackcomp(cmd)

    def _mid_generate(self) -> int:
        """Skip identifiers in use: paho counts messages with QoS 0, too, and wraps around."""
        packet_id = super()._mid_generate()
        while packet_id in self.unacknowledged:
            packet_id = super()._mid_generate()
        return packet_id


class Connection:
    """A connection, from the name resolution to its end.

    Args:
        broker: where to connect.
        client_id: the client ID.
        options: how to connect.
        clock: the clock to use.
    """

    def __init__(
        self, broker: Broker, client_id: str, options: ConnectOptions, clock: Clock
    ) -> None:
        self.is_accepted = False
        self.limits = Limits()
        self._broker = broker
        self._clock = clock
        self._options = options
        self._is_5 = options.version == "5"
        self._max_unacknowledged = MAX_UNACKNOWLEDGED
        self._notifications: deque[Notification] = deque()
        self._subscribing: dict[int, list[str]] = {}
        """Topics of unacknowledged subscriptions by packet identifier."""
        self._end: ConnectionEnded | None = None
        self._opened_at = clock.monotonic()
        self._paho_error = ""
        self._wake_sender, self._wake_receiver = socket.socketpair()
        self._wake_sender.settimeout(0)
        self._wake_receiver.settimeout(0)
        self._client = self._make_client(client_id)

    def open(self, broker: Broker | None = None) -> None:
        """Resolve the name, connect, encrypt; each can take long.

        Args:
            broker: the broker with its present credentials; None: with those at the start.

        Raises:
            ConnectionEnded: there is no connection.
        """
        broker = broker or self._broker
        self._set_credentials(broker)
        clean = self._starts_clean if self._is_5 else paho.MQTT_CLEAN_START_FIRST_ONLY
        try:
            self._client.connect(
                broker.host,
                broker.port,
                broker.keepalive,
                clean_start=clean,
                properties=self._connect_properties(),
            )
        except ssl.SSLCertVerificationError as error:
            raise ConnectionEnded(f"certificate refused: {error.verify_message}") from error
        except (OSError, ValueError) as error:  # ValueError: an invalid name
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ConnectionEnded(reason) from error
        except Exception as error:  # from paho's WebSocket handshake, such as IndexError
            raise ConnectionEnded(f"invalid handshake: {in_one_line(error)}") from error
        self._opened_at = self._clock.monotonic()

    def poll(self, timeout_s: float) -> list[Notification]:
        """Read and write what is possible; wait for that for a limited time.

        Raises:
            ConnectionEnded: the connection has ended.
        """
        if self._end is None:
            self._wait(timeout_s)
            self._exchange()
            self._check_deadlines()
            if self._client.socket() is None:
                self._note_end(ConnectionEnded("connection lost"))
        if not self._notifications and self._end is not None:
            raise self._end
        notifications, self._notifications = list(self._notifications), deque()
        return notifications

    def wake(self) -> None:
        """End the wait in `poll`. Called from other threads."""
        with contextlib.suppress(OSError):  # closed, or already signalled
            self._wake_sender.send(b"!")

    @property
    def room(self) -> int:
        """How many messages with QoS 1 can be sent now."""
        return self._max_unacknowledged - len(self._client.unacknowledged)

    @property
    def is_flushed(self) -> bool:
        """Whether all published messages have been handed to the network."""
        return not self._client.want_write()

    def publish(self, message: Message) -> int:
        """Send a message, with what the broker supports of QoS 1 and retain.

        Returns:
            The packet identifier, which `Acknowledged` has if the message has QoS 1.

        Raises:
            CannotPublish: the message is too large for the broker.
        """
        size, limit = _packet_bytes(message), self.limits.max_packet_bytes
        if limit is not None and size > limit:
            raise CannotPublish(f"{size} bytes exceed the broker's maximum packet size of {limit}")
        qos = min(message.qos, self.limits.max_qos)
        retain = message.retain and self.limits.retain_available
        packet_id = self._client.publish(message.topic, message.payload, qos, retain).mid
        if qos:
            self._note_sent(packet_id, message.topic)
        elif message.qos:  # nothing will come, so what is sent counts as accepted
            accepted = Acknowledged(packet_id, message.topic, PublishOutcome.ACCEPTED, 0, "QoS 0")
            self._notifications.append(accepted)
        return packet_id

    def subscribe(self, topics: list[str], *, with_retained: bool = False) -> None:
        """Subscribe with QoS 1; with MQTT 5, stored messages come only `with_retained`."""
        if self._is_5:
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
                if with_retained
                else SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            options = SubscribeOptions(qos=1, retainHandling=handling)
            _, packet_id = self._client.subscribe([(topic, options) for topic in topics])
        else:
            _, packet_id = self._client.subscribe([(topic, 1) for topic in topics])
        if packet_id is not None:
            self._subscribing[packet_id] = topics
            self._note_sent(packet_id, "")

    def unsubscribe(self, topics: list[str]) -> None:
        """Receive no more messages on these topics."""
        self._client.unsubscribe(topics)

    def acknowledge(self, received: Received) -> None:
        """Acknowledge a message, which the broker otherwise sends again at the next connect."""
        self._client.ack(received.packet_id, received.qos)

    def disconnect(self, *, is_session_discarded: bool = False) -> None:
        """Disconnect cleanly, discarding the will and, on request, the session."""
        properties = None
        if is_session_discarded and self._is_5:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._client.loop_write()

    def close(self) -> None:
        """Close the sockets. Without `disconnect`, the broker publishes the will."""
        client = self._client
        client.on_connect = client.on_disconnect = client.on_publish = None
        client.on_message = client.on_subscribe = client.on_log = None
        if (sock := client.socket()) is not None:
            sock.close()
        self._wake_sender.close()
        self._wake_receiver.close()

    @property
    def _starts_clean(self) -> bool:
        return self._broker.session_expiry == 0 or self._options.is_session_discarded

    def _make_client(self, client_id: str) -> _Client:
        broker = self._broker
        clean_session = None if self._is_5 else self._starts_clean
        client = _Client(client_id, broker.transport, is_5=self._is_5, clean_session=clean_session)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(0)  # unlimited, as `room` is the limit
        if (will := self._options.will) is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain, self._will_delay())
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log
        return client

    def _set_credentials(self, broker: Broker) -> None:
        client = self._client
        if broker.transport == "websockets":
            client.ws_set_options(broker.websocket_path, dict(broker.websocket_headers) or None)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            client.tls_set_context(broker.tls)

    def _connect_properties(self) -> Properties | None:
        if not self._is_5:
            return None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._broker.session_expiry
        properties.MaximumPacketSize = MAX_RECEIVED_BYTES
        properties.ReceiveMaximum = MAX_RECEIVED_UNACKNOWLEDGED
        return properties

    def _will_delay(self) -> Properties | None:
        if not self._is_5:
            return None
        properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        properties.WillDelayInterval = self._broker.will_delay
        return properties

    def _note_sent(self, packet_id: int, topic: str) -> None:
        self._client.unacknowledged[packet_id] = (topic, self._clock.monotonic())

    def _wait(self, timeout_s: float) -> None:
        """Wait for something to read or write, or for `wake`."""
        sock = self._client.socket()
        if sock is None:
            return
        pending = getattr(sock, "pending", lambda: 0)()  # decrypted already
        is_due = bool(pending or self._notifications)
        poller = select.poll()  # `select.select` fails with file descriptors from 1024
        poller.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poller.register(self._wake_receiver, select.POLLIN)
        poller.poll(0 if is_due else 1000 * timeout_s)
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(4096)

    def _exchange(self) -> None:
        """Read and write. paho fails in many ways on data that is not MQTT."""
        try:
            self._client.loop_read()
            self._client.loop_write()
            self._client.loop_misc()
        except ConnectionEnded as end:
            self._note_end(end)
        except Exception as error:  # noqa: BLE001
            self._note_end(ConnectionEnded(f"invalid MQTT data: {in_one_line(error)}"))

    def _check_deadlines(self) -> None:
        now = self._clock.monotonic()
        if not self.is_accepted and now - self._opened_at > CONNECT_TIMEOUT_S:
            self._note_end(ConnectionEnded(f"no answer for {CONNECT_TIMEOUT_S:g} s"))
        for topic, sent_at in self._client.unacknowledged.values():
            if now - sent_at > ACK_TIMEOUT_S:
                what = f"message on {topic}" if topic else "subscription"
                reason = f"{what} not acknowledged for {ACK_TIMEOUT_S:g} s"
                self._note_end(ConnectionEnded(reason))

    def _note_end(self, end: ConnectionEnded) -> None:
        """Note why the connection ends; the first reason is the cause of the others."""
        self._end = self._end or end

    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._note_end(ConnectionRefused(f"login refused: {reason}", int(reason.value)))
            return
        receive_maximum = getattr(properties, "ReceiveMaximum", MAX_UNACKNOWLEDGED)
        self._max_unacknowledged = min(receive_maximum, MAX_UNACKNOWLEDGED)
        self.limits = Limits(
            getattr(properties, "MaximumPacketSize", None),
            getattr(properties, "MaximumQoS", 2),
            bool(getattr(properties, "RetainAvailable", True)),
        )
        self.is_accepted = True
        self._notifications.append(ConnectionAccepted(self.limits))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        if reason.value == SESSION_TAKEN_OVER:
            self._note_end(TakenOver(str(reason)))
        elif reason.value != UNSPECIFIED or flags.is_disconnect_packet_from_server:
            self._note_end(ConnectionEnded(str(reason)))
        elif self.is_accepted or not self._is_5:
            self._note_end(ClosedByPeer(self._paho_error or "connection closed by the broker"))
        else:
            hint = (
                "set mqtt.tls if this port is encrypted, or mqtt.protocol to 3.1.1 if the broker "
                "does not support MQTT 5"
            )
            reply = self._paho_error or "connection closed by the broker without an answer"
            self._note_end(ClosedByPeer(f"{reply}; {hint}"))

    def _on_publish(
        self,
        _client: paho.Client,
        _data: object,
        packet_id: int,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        """Note an acknowledgement. paho also calls this for each sent message with QoS 0."""
        topic, _ = self._client.unacknowledged.pop(packet_id, (None, 0.0))
        if topic is None:
            return
        outcome = PublishOutcome.ACCEPTED
        if reason.is_failure:
            outcome = PublishOutcome.REFUSED
        elif reason.value == NO_MATCHING_SUBSCRIBERS:
            outcome = PublishOutcome.NO_SUBSCRIBERS
        text = str(reason)
        if packet_id in self._client.too_large:
            self._client.too_large.remove(packet_id)
            text = "exceeds the broker's message size limit"
        code = int(reason.value)
        self._notifications.append(Acknowledged(packet_id, topic, outcome, code, text))

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._notifications.append(
            Received(
                message.topic,
                bytes(message.payload),
                retained=message.retain,
                qos=message.qos,
                packet_id=message.mid,
            )
        )

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: object,
        packet_id: int,
        reasons: list[ReasonCode],
        _properties: object,
    ) -> None:
        self._client.unacknowledged.pop(packet_id, None)
        answers = zip(self._subscribing.pop(packet_id, []), reasons, strict=False)
        refusals = [f"{topic}: {reason}" for topic, reason in answers if reason.is_failure]
        self._notifications.append(Subscribed(tuple(refusals)))

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        """Keep paho's error, which is more precise than the reason that follows it."""
        if level == paho.MQTT_LOG_ERR:
            self._paho_error = text


def _packet_bytes(message: Message) -> int:
    """Size of a PUBLISH packet of MQTT 5 without properties, as paho sends it."""
    rest = 2 + len(message.topic.encode()) + 1 + len(message.payload) + (2 if message.qos else 0)
    length_bytes = next(count for count in (1, 2, 3, 4) if rest < 128**count)
    return 1 + length_bytes + rest
