"""A faulty or malicious broker that sends invalid packets."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from fuzz.generated import many
from hypothesis import example, given
from hypothesis import strategies as st
from running import PATIENCE

from edge_daemon._lib.clock import SystemClock
from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.messages import ConnectionEnded, ConnectOptions
from edge_daemon.publishing.mqtt import Connection
from edge_daemon.publishing.subscription import Subscription

CONNACK_5 = b"\x20\x03\x00\x00\x00"
"""MQTT 5's CONNACK: accepted, no properties."""

CONNACK_3 = b"\x20\x02\x00\x00"
"""MQTT 3.1.1's CONNACK: accepted."""

GREETINGS = [("5", CONNACK_5), ("5", b""), ("3.1.1", CONNACK_3), ("3.1.1", b"")]

SUBACK = b"\x90\x04\x00\x01\x00\x01"

MAX_POLLS = 200


class BadBroker:
    """Sends the same bytes to every client, and disconnects."""

    def __init__(self) -> None:
        self.answer = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        # Closing alone would leave the thread in accept().
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.settimeout(PATIENCE)
                client.recv(4096)
                client.sendall(self.answer)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass


@pytest.fixture(scope="module")
def bad() -> Iterator[BadBroker]:
    with closing(BadBroker()) as broker:
        yield broker


def packet(kind: int, content: bytes) -> bytes:
    """A packet of less than 128 bytes."""
    return bytes([kind, len(content)]) + content


kinds = st.integers(0, 255)
contents = st.binary(max_size=40)
topics = st.sampled_from(
    [b"\x00\x01a", b"\x00\x00", b"\xff\xff", b"\x00\x02\xff\xfe", b"\x00\x01\x00"]
)
properties = st.sampled_from(
    [
        b"\x00",
        b"\x7f",
        b"\xff\xff\xff\xff",
        b"\x03\x23\x00\x01",
        b"\x02\x01\x07",
        b"\x05\x26\x00\x09a",
    ]
)
packets = (
    st.builds(packet, kinds, contents)
    | st.builds(
        lambda flags, *parts: packet(0x30 | flags, b"".join(parts)),
        st.integers(0, 15),
        topics,
        properties,
        contents,
    )
    | st.builds(
        lambda kind, size: bytes([kind]) + size,
        kinds,
        st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b""]),
    )
)
streams = st.lists(packets, min_size=1, max_size=4).map(b"".join) | st.binary(
    min_size=1, max_size=200
)


@many(80)
@given(stream=streams, greeting=st.sampled_from(GREETINGS))
@example(stream=packet(0x30, b"\x00\x02\xff\xfe\x00x"), greeting=("5", CONNACK_5))
@example(stream=packet(0x30, b"\x00\x02\xff\xfex"), greeting=("3.1.1", CONNACK_3))
def test_connection_invalid_packets_end_it_with_a_reason(
    bad: BadBroker, stream: bytes, greeting: tuple[str, bytes]
) -> None:
    version, connack = greeting
    bad.answer = connack + stream
    options = ConnectOptions(version)
    connection = Connection(Broker("127.0.0.1", bad.port), "camera", options, SystemClock())
    connection.open()
    try:
        assert len(reason_of_end(connection).splitlines()) == 1
    finally:
        connection.close()


header_names = st.sampled_from(
    [b"Sec-WebSocket-Accept", b"sec-websocket-accept", b"Connection", b"Upgrade", b"X", b""]
)
header_values = st.sampled_from([b"abc", b"Upgrade", b"\xff\xfe", b"", b"a: b"])
responses = st.lists(
    st.tuples(header_names, st.sampled_from([b":", b": ", b"", b":\t"]), header_values).map(
        b"".join
    ),
    max_size=4,
).map(lambda lines: b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"", b""]))


@many(80)
@given(response=responses | st.binary(max_size=200))
@example(response=b"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept:abc\r\n\r\n")
# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*<socket")
def test_connection_invalid_websocket_handshake_ends_it(bad: BadBroker, response: bytes) -> None:
    bad.answer = response
    broker = Broker("127.0.0.1", bad.port, transport="websockets")
    connection = Connection(broker, "camera", ConnectOptions("5"), SystemClock())
    with closing(connection):
        assert len(reason_of_failed_opening(connection).splitlines()) == 1


def reason_of_failed_opening(connection: Connection) -> str:
    try:
        connection.open()
    except ConnectionEnded as end:
        return str(end)
    raise AssertionError("it is open")


def reason_of_end(connection: Connection) -> str:
    """Poll the connection until it ends."""
    for _ in range(MAX_POLLS):
        try:
            connection.poll(0.1)
        except ConnectionEnded as end:
            return str(end)
    raise AssertionError("it never ends")


@many(60)
@given(stream=streams, greeting=st.sampled_from([b"", CONNACK_5 + SUBACK]))
@example(stream=packet(0x30, b"\x00\x02\xff\xfe\x00x"), greeting=CONNACK_5 + SUBACK)
def test_subscription_invalid_packets_are_reported(
    bad: BadBroker, stream: bytes, greeting: bytes
) -> None:
    bad.answer = greeting + stream
    notices: list[str] = []
    broker = Broker("127.0.0.1", bad.port)
    with closing(
        Subscription(broker, ["a"], notices.append, SystemClock(), role="test")
    ) as subscription:
        try:
            subscription.open()
        except BrokerError as error:
            notices.append(str(error))
        else:
            for _ in range(MAX_POLLS):
                list(subscription.receive(0.02))
                if subscription.problem:
                    break
        assert notices
        assert all(len(line.splitlines()) == 1 for line in notices)
