"""A small MQTT 5 broker that responds as a test defines, also in ways that no real broker does."""

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from running import PATIENCE

CONNACK: Final = b"\x20\x03\x00\x00\x00"
CONNECT, PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 10, 12, 14


@dataclass(frozen=True)
class Published:
    """A message that the broker has received."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int
    connection: int
    """Number of the connection, from 1."""


def connack(*properties: bytes, reason: int = 0) -> bytes:
    """A CONNACK packet with these encoded properties."""
    joined = b"".join(properties)
    return bytes([0x20, 3 + len(joined), 0, reason, len(joined)]) + joined


def publish(topic: str, payload: bytes, packet_id: int = 1, size: int | None = None) -> bytes:
    """A PUBLISH packet with QoS 1; `size` claims another length than the real one."""
    name = topic.encode()
    rest = len(name).to_bytes(2) + name + packet_id.to_bytes(2) + b"\x00" + payload
    return b"\x32" + encoded_length(len(rest) if size is None else size) + rest


def encoded_length(number: int) -> bytes:
    """MQTT's variable byte integer."""
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (128 if number else 0))
        if not number:
            return bytes(encoded)


def accept_all(_message: Published) -> int | None:
    return 0


class ScriptedBroker:
    """Accepts connections and keeps what is published.

    Args:
        connack: the response to CONNECT.
        respond: the reason code for a message with QoS 1; None for no acknowledgement.
        after_subscribe: packets that follow the response to the first subscription.
        subscribed: the reason code of each topic in that response.
    """

    def __init__(
        self,
        connack: bytes = CONNACK,
        respond: Callable[[Published], int | None] = accept_all,
        after_subscribe: bytes = b"",
        subscribed: int = 1,
    ) -> None:
        self.published: list[Published] = []
        self.acknowledged: list[int] = []
        """Packet identifiers of messages to the client that it has acknowledged."""
        self.connects: list[bytes] = []
        self.unsubscribes = 0
        self._connack = connack
        self._respond = respond
        self._after_subscribe = after_subscribe
        self._subscribed = bytes([subscribed])
        self._changed = threading.Condition()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop_all()
        for thread in self._threads:
            thread.join(PATIENCE)

    def drop_all(self) -> None:
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def send(self, packet: bytes) -> None:
        """Send a packet over the latest connection."""
        self._sockets[-1].sendall(packet)

    def on(self, topic: str) -> list[Published]:
        return [message for message in self.published if message.topic.endswith(topic)]

    def wait_until(self, is_fulfilled: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_fulfilled, PATIENCE), self.published

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._sockets.append(connection)
            number = len(self._sockets)
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while header := stream.read(1):
                length, shift = 0, 0
                while True:
                    (digit,) = stream.read(1)
                    length |= (digit & 127) << shift
                    shift += 7
                    if digit < 128:
                        break
                self._handle(connection, number, header[0], stream.read(length))

    def _handle(self, connection: socket.socket, number: int, header: int, body: bytes) -> None:
        kind = header >> 4
        with self._changed:
            if kind == CONNECT:
                self.connects.append(body)
                connection.sendall(self._connack)
            elif kind == PUBLISH:
                self._on_publish(connection, number, header, body)
            elif kind == PUBACK:
                self.acknowledged.append(int.from_bytes(body[:2]))
            elif kind == SUBSCRIBE:
                count = body.count(b"/") or 1
                connection.sendall(
                    bytes([0x90, 3 + count]) + body[:2] + b"\x00" + self._subscribed * count
                )
                packets, self._after_subscribe = self._after_subscribe, b""
                connection.sendall(packets)
            elif kind == UNSUBSCRIBE:
                self.unsubscribes += 1
                connection.sendall(b"\xb0\x04" + body[:2] + b"\x00\x00")
            elif kind == PINGREQ:
                connection.sendall(b"\xd0\x00")
            self._changed.notify_all()

    def _on_publish(self, connection: socket.socket, number: int, header: int, body: bytes) -> None:
        qos, end = header >> 1 & 3, 2 + int.from_bytes(body[:2])
        packet_id = int.from_bytes(body[end : end + 2]) if qos else 0
        payload = body[end + (2 if qos else 0) + 1 :]  # without properties
        message = Published(body[2:end].decode(), payload, qos, bool(header & 1), packet_id, number)
        self.published.append(message)
        if qos and (reason := self._respond(message)) is not None:
            connection.sendall(b"\x40\x04" + packet_id.to_bytes(2) + bytes([reason, 0]))
