"""A broker, or what stands in its place, that sends what no broker should."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from doors.generated import many
from hypothesis import example, given
from hypothesis import strategies as st
from running import PATIENCE

from edge_daemon._lib.clock import SystemClock
from edge_daemon.errors import BrokerError
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.mqtt import Connection, ConnectionEnded, ConnectOptions
from edge_daemon.publishing.subscription import Subscription

WELCOME = b"\x20\x03\x00\x00\x00"
"""MQTT 5's CONNACK: accepted, no properties."""

OLD_WELCOME = b"\x20\x02\x00\x00"
"""The same of MQTT 3.1.1."""

GREETINGS = [("5", WELCOME), ("5", b""), ("3.1.1", OLD_WELCOME), ("3.1.1", b"")]

SUBSCRIBED = b"\x90\x04\x00\x01\x00\x01"

TURNS = 200


class BadBroker:
    """Answers whoever connects with the same bytes, and hangs up."""

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
@example(stream=packet(0x30, b"\x00\x02\xff\xfe\x00x"), greeting=("5", WELCOME))
@example(stream=packet(0x30, b"\x00\x02\xff\xfex"), greeting=("3.1.1", OLD_WELCOME))
def test_daemon_ends_the_connection(
    bad: BadBroker, stream: bytes, greeting: tuple[str, bytes]
) -> None:
    version, welcome = greeting
    bad.answer = welcome + stream
    options = ConnectOptions(version)
    connection = Connection(Broker("127.0.0.1", bad.port), "camera", options, SystemClock())
    connection.open()
    try:
        assert len(reason_of_end(connection).splitlines()) == 1
    finally:
        connection.close()


def reason_of_end(connection: Connection) -> str:
    """Turn it until it ends."""
    for _ in range(TURNS):
        try:
            connection.poll(0.1)
        except ConnectionEnded as end:
            return str(end)
    raise AssertionError("it never ends")


@many(60)
@given(stream=streams, greeting=st.sampled_from([b"", WELCOME + SUBSCRIBED]))
@example(stream=packet(0x30, b"\x00\x02\xff\xfe\x00x"), greeting=WELCOME + SUBSCRIBED)
def test_watch_loses_the_connection_or_is_refused(
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
            for _ in range(TURNS):
                list(subscription.receive(0.02))
                if subscription.problem:
                    break
        assert notices
        assert all(len(line.splitlines()) == 1 for line in notices)
