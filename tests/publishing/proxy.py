"""What stands between a client and a real broker, to make the way bad."""

import contextlib
import selectors
import socket
import threading
from enum import Enum, auto
from typing import Self

from running import PATIENCE

CONNECT, CONNACK_WRONG_VERSION = 0x10, b"\x20\x02\x00\x01"
PUBLISH_QOS_1, QUOTA_EXCEEDED = 0x32, b"\x97"


class Proxy:
    """Connects clients with a broker on this machine; it can stall, and cut connections."""

    def __init__(self, broker_port: int) -> None:
        self.flowing = threading.Event()
        self.flowing.set()
        self._broker_port = broker_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self.port = int(self._server.getsockname()[1])
        self._stopping = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.flowing.set()
        self.drop_all()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._server.close()

    def drop_all(self) -> None:
        """Cut all connections off."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._server.accept()
                self._open.append(client)
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(PATIENCE)
        with client, contextlib.suppress(OSError):
            first = self._admitted(client)
            if first is None:
                return
            with socket.create_connection(("127.0.0.1", self._broker_port)) as broker:
                self._open.append(broker)
                broker.sendall(first)
                self._pass_on(client, broker)

    def _admitted(self, _client: socket.socket) -> bytes | None:
        """What was read from the client, or None if it is sent away."""
        return b""

    def _pass_on(self, client: socket.socket, broker: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, broker)
            selector.register(broker, selectors.EVENT_READ, client)
            while not self._stopping.is_set():
                for key, _ in selector.select(0.05):
                    if not self.flowing.wait(0.05):
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(65536)
                    if not data:
                        return
                    self._forward(data, key.fileobj, key.data)

    def _forward(self, data: bytes, _source: socket.socket, target: socket.socket) -> None:
        target.sendall(data)


class Response(Enum):
    """What a device's events get."""

    FORWARD = auto()
    """The broker's response."""
    REFUSE = auto()
    """A PUBACK with the reason `quota exceeded`, without the broker."""
    NONE = auto()


class EventProxy(Proxy):
    """Stops a client's events with QoS 1 on their way to the broker (MQTT 5).

    Args:
        broker_port: of the broker on this machine.
        topic: where the events are published.
    """

    def __init__(self, broker_port: int, topic: str) -> None:
        super().__init__(broker_port)
        self.response = Response.FORWARD
        self._topic = topic.encode()
        self._streams: dict[socket.socket, bytearray] = {}

    def _forward(self, data: bytes, source: socket.socket, target: socket.socket) -> None:
        is_from_client = target.getpeername()[1] == self._broker_port
        if not is_from_client:
            target.sendall(data)
            return
        stream = self._streams.setdefault(source, bytearray())
        stream += data
        while (size := _packet_bytes(stream)) is not None and len(stream) >= size:
            packet = bytes(stream[:size])
            del stream[:size]
            packet_id = self._event_id(packet)
            if packet_id is None or self.response is Response.FORWARD:
                target.sendall(packet)
            elif self.response is Response.REFUSE:
                source.sendall(b"\x40\x03" + packet_id + QUOTA_EXCEEDED)

    def _event_id(self, packet: bytes) -> bytes | None:
        """The packet identifier, if this is an event."""
        if packet[0] & 0xF6 != PUBLISH_QOS_1:
            return None
        start = 1 + _length_bytes(packet) + 2
        end = start + len(self._topic)
        length = int.from_bytes(packet[start - 2 : start])
        is_event = length == len(self._topic) and packet[start:end] == self._topic
        return packet[end : end + 2] if is_event else None


def _length_bytes(packet: bytes | bytearray) -> int:
    """Bytes of the length in the fixed header."""
    return next(count for count in (1, 2, 3, 4) if not packet[count] & 0x80)


def _packet_bytes(stream: bytearray) -> int | None:
    """Bytes of the first packet of a stream; None if its header is incomplete."""
    length = 0
    for place, byte in enumerate(stream[1:5]):
        length |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return 2 + place + length
    return None


class OldBroker(Proxy):
    """A broker for MQTT 3.1.1 only, which refuses others as its specification requires."""

    def __init__(self, broker_port: int) -> None:
        super().__init__(broker_port)
        self.refused = 0

    def _admitted(self, client: socket.socket) -> bytes | None:
        packet = client.recv(65536)
        assert packet[0] == CONNECT
        version = packet[packet.index(b"MQTT") + 4]
        if version == 4:
            return packet
        self.refused += 1
        client.sendall(CONNACK_WRONG_VERSION)
        return None
