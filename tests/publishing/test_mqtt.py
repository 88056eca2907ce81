"""One connection, to a real broker or to one that breaks the rules."""

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from conftest import FakeClock
from publishing.broker import Mosquitto, subscribed
from publishing.proxy import CONNACK_WRONG_VERSION
from publishing.scripted import CONNACK, ScriptedBroker, connack, publish
from publishing.websocket import WebSocketProxy
from running import PATIENCE, eventually

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.config.settings import MqttSettings
from edge_daemon.pipeline import in_thread
from edge_daemon.publishing.broker import Broker, broker_from
from edge_daemon.publishing.messages import (
    UNSUPPORTED_VERSION,
    Acknowledged,
    CannotPublish,
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
    Version,
)
from edge_daemon.publishing.mqtt import (
    ACK_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    MAX_RECEIVED_BYTES,
    MAX_UNACKNOWLEDGED,
    Connection,
)

WILL = Message("test/will", b"gone", retain=True, qos=1)
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


def to_broker(
    broker: Broker, version: Version = "5", client_id: str = "camera", clock: Clock | None = None
) -> Connection:
    options = ConnectOptions(version, WILL)
    return Connection(broker, client_id, options, clock or SystemClock())


@contextmanager
def connection_to(
    port: int,
    version: Version = "5",
    client_id: str = "camera",
    clock: Clock | None = None,
    **more: object,
) -> Iterator[Connection]:
    broker = Broker("127.0.0.1", port, keepalive=5, **more)  # type: ignore[arg-type]
    connection = to_broker(broker, version, client_id, clock)
    try:
        connection.open()
        yield connection
    finally:
        connection.close()


def notifications(
    connection: Connection, *kinds: type[Notification], wait_s: float = 0.1
) -> Iterator[Notification]:
    """Notifications of some kinds, as they come."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for notification in connection.poll(wait_s):
            if isinstance(notification, kinds):
                yield notification
    pytest.fail(f"no {' or '.join(kind.__name__ for kind in kinds)}")


def response(connection: Connection) -> Acknowledged:
    found = next(notifications(connection, Acknowledged))
    assert isinstance(found, Acknowledged)
    return found


@contextmanager
def accepted_by(port: int, version: Version = "5", **more: object) -> Iterator[Connection]:
    with connection_to(port, version, **more) as connection:  # type: ignore[arg-type]
        assert next(notifications(connection, ConnectionAccepted))
        yield connection


def subscribe(connection: Connection, topic: str) -> None:
    connection.subscribe([topic])
    assert next(notifications(connection, Subscribed)) == Subscribed(())


def end_of(connection: Connection) -> ConnectionEnded:
    with pytest.raises(ConnectionEnded) as end:
        next(notifications(connection))
    return end.value


@VERSIONS
def test_connection_publish_is_acknowledged_by_packet_id(
    broker: Mosquitto, version: Version
) -> None:
    with subscribed(broker.port, "test"), accepted_by(broker.port, version) as connection:
        numbers = [connection.publish(Message("test/a", b"1", qos=1)) for _ in range(3)]
        assert connection.room == MAX_UNACKNOWLEDGED - 3
        answers = notifications(connection, Acknowledged)
        for number in numbers:
            answer = next(answers)
            assert isinstance(answer, Acknowledged)
            assert (answer.packet_id, answer.topic) == (number, "test/a")
            assert answer.outcome is PublishOutcome.ACCEPTED
        assert connection.room == MAX_UNACKNOWLEDGED


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("5", PublishOutcome.NO_SUBSCRIBERS), ("3.1.1", PublishOutcome.ACCEPTED)],
)
def test_connection_publish_without_subscriber_is_reported(
    broker: Mosquitto, version: Version, outcome: PublishOutcome
) -> None:
    with accepted_by(broker.port, version) as connection:
        connection.publish(Message("test/a", b"1", qos=1))
        assert response(connection).outcome is outcome


def test_connection_publish_without_right_is_refused(tmp_path: Path) -> None:
    rights = ("topic read #",)
    with Mosquitto(tmp_path, rights=rights) as broker, accepted_by(broker.port) as connection:
        connection.publish(Message("test/a", b"1", qos=1))
        answer = response(connection)
        assert (answer.outcome, answer.code) == (PublishOutcome.REFUSED, 0x87)


def test_connection_missing_acknowledgement_ends_it(clock: FakeClock) -> None:
    with (
        ScriptedBroker(respond=lambda _: None) as broker,
        accepted_by(broker.port, clock=clock) as connection,
    ):
        connection.publish(Message("test/a", b"1", qos=1))
        clock.seconds += ACK_TIMEOUT_S
        connection.poll(0.1)
        clock.seconds += 1
        assert "test/a" in str(end_of(connection))


def test_connection_packet_id_in_flight_is_not_reused() -> None:
    """paho numbers messages with QoS 0, too, and its counter wraps around at 65,535."""
    with ScriptedBroker(respond=lambda _: None) as broker, accepted_by(broker.port) as connection:
        first = connection.publish(Message("test/a", b"1", qos=1))
        connection._client._last_mid = first - 1 or 65535
        numbers = {connection.publish(Message("test/b", b"")) for _ in range(3)}
        second = connection.publish(Message("test/a", b"2", qos=1))
        assert first not in {*numbers, second}
        broker.wait_until(lambda: len(broker.published) == 5)
        assert connection.poll(0.1) == []
        assert connection.room == MAX_UNACKNOWLEDGED - 2


@pytest.mark.parametrize(
    ("properties", "limits"),
    [
        ((b"\x27\x00\x00\x07\xd0",), Limits(max_packet_bytes=2000)),
        ((b"\x24\x00",), Limits(max_qos=0)),
        ((b"\x25\x00",), Limits(retain_available=False)),
        ((), Limits()),
    ],
)
def test_connection_limits_are_those_of_connack(
    properties: tuple[bytes, ...], limits: Limits
) -> None:
    with ScriptedBroker(connack(*properties)) as broker, connection_to(broker.port) as connection:
        assert next(notifications(connection, ConnectionAccepted)) == ConnectionAccepted(limits)


def test_connection_limits_of_mosquitto_are_known(tmp_path: Path) -> None:
    lines = ("max_packet_size 2000", "max_inflight_messages 3", "retain_available false")
    with Mosquitto(tmp_path, lines=lines) as broker:
        options = ConnectOptions("5", Message("test/will", b"gone", qos=1))
        connection = Connection(Broker("127.0.0.1", broker.port), "x", options, SystemClock())
        connection.open()
        next(notifications(connection, ConnectionAccepted))
        assert connection.limits == Limits(2000, 2, retain_available=False)
        assert connection.room == 3
        connection.close()


@pytest.mark.parametrize(("qos", "size"), list(itertools.product([0, 1], [126, 2000, 20_000])))
def test_connection_publish_up_to_max_packet_size_is_sent(
    tmp_path: Path, qos: int, size: int
) -> None:
    """mosquitto ends the connection on a packet that is one byte longer."""
    lines = (f"max_packet_size {size}",)
    with Mosquitto(tmp_path, lines=lines) as broker, accepted_by(broker.port) as connection:
        header = 2 + len("test/a") + 1 + (2 if qos else 0)
        length_bytes = 1 if size < 130 else 2 if size < 16387 else 3
        largest = size - header - 1 - length_bytes
        with pytest.raises(CannotPublish):
            connection.publish(Message("test/a", b"x" * (largest + 1), qos=qos))
        connection.publish(Message("test/a", b"x" * largest, qos=qos))
        connection.publish(Message("test/a", b"", qos=1))
        assert response(connection)


def test_connection_without_retain_and_qos_sends_the_rest() -> None:
    with (
        ScriptedBroker(connack(b"\x24\x00", b"\x25\x00")) as broker,
        accepted_by(broker.port) as connection,
    ):
        number = connection.publish(Message("test/a", b"1", retain=True, qos=1))
        assert response(connection).packet_id == number
        broker.wait_until(lambda: bool(broker.published))
        (message,) = broker.published
        assert (message.qos, message.retain, message.payload) == (0, False, b"1")


@VERSIONS
def test_connection_messages_of_others_are_received(broker: Mosquitto, version: Version) -> None:
    with subscribed(broker.port, "test") as other, accepted_by(broker.port, version) as connection:
        subscribe(connection, "test/set/a")
        other.publish("set/a", b"ON")
        received = next(notifications(connection, Received))
        assert isinstance(received, Received)
        assert (received.topic, received.payload) == ("test/set/a", b"ON")
        assert (received.retained, received.qos) == (False, 1)


def test_connection_stored_message_is_marked_or_not_sent(broker: Mosquitto) -> None:
    with subscribed(broker.port, "test") as other:
        other.publish("set/a", b"old", retain=True)
        with accepted_by(broker.port, "3.1.1") as connection:
            connection.subscribe(["test/set/a"])
            received = next(notifications(connection, Received))
            assert isinstance(received, Received)
            assert (received.payload, received.retained) == (b"old", True)
        with accepted_by(broker.port, "5") as connection:
            subscribe(connection, "test/set/a")
            other.publish("set/a", b"new", retain=True)
            received = next(notifications(connection, Received))
            assert isinstance(received, Received)
            assert (received.payload, received.retained) == (b"new", False)


@VERSIONS
@pytest.mark.parametrize("is_acknowledged", [False, True])
def test_connection_message_is_sent_again_until_acknowledged(
    broker: Mosquitto, version: Version, *, is_acknowledged: bool
) -> None:
    with accepted_by(broker.port, version, session_expiry=60) as connection:
        subscribe(connection, "test/set/a")
        connection.disconnect()
    with subscribed(broker.port, "test") as other:
        other.publish("set/a", b"ON")
        with accepted_by(broker.port, version, session_expiry=60) as connection:
            received = next(notifications(connection, Received))
            assert isinstance(received, Received)
            assert received.payload == b"ON"
            if is_acknowledged:
                connection.acknowledge(received)
                connection.publish(Message("test/b", b"", qos=1))
                response(connection)
        with accepted_by(broker.port, version, session_expiry=60) as connection:
            connection.publish(Message("test/b", b"", qos=1))
            first = next(notifications(connection, Acknowledged, Received))
            assert isinstance(first, Received) != is_acknowledged


@pytest.mark.parametrize("size", [MAX_RECEIVED_BYTES + 1, 150_000_000])
def test_connection_large_packet_ends_it_before_it_is_read(size: int) -> None:
    with ScriptedBroker() as broker, accepted_by(broker.port) as connection:
        broker.send(publish("a/b", b"x" * 10_000, size=size))
        assert isinstance(end_of(connection), PacketTooLarge)


def test_connection_discarded_session_loses_its_messages(broker: Mosquitto) -> None:
    target = Broker("127.0.0.1", broker.port, session_expiry=60)
    with accepted_by(broker.port, "3.1.1", session_expiry=60) as connection:
        subscribe(connection, "test/set/a")
    with subscribed(broker.port, "test") as other:
        other.publish("set/a", b"x" * 1000)
    options = ConnectOptions("3.1.1", None, is_session_discarded=True)
    connection = Connection(target, "camera", options, SystemClock())
    connection.open()
    next(notifications(connection, ConnectionAccepted))
    connection.publish(Message("test/b", b"", qos=1))
    assert isinstance(next(notifications(connection, Acknowledged, Received)), Acknowledged)
    connection.close()


def test_connection_disconnect_discards_will_and_loss_does_not(broker: Mosquitto) -> None:
    with subscribed(broker.port, "test") as listening:
        with accepted_by(broker.port) as connection:
            connection.disconnect()
        with accepted_by(broker.port, client_id="other"):
            pass
        listening.wait_for("will", b"gone")
        listening.flush()
        assert listening.payloads("will") == [b"gone"]


@pytest.mark.parametrize(
    ("version", "will_delay", "min_delay_s"), [("5", 6, 4), ("3.1.1", 10 * int(PATIENCE), 0)]
)
def test_connection_will_delay_is_for_mqtt_5(
    broker: Mosquitto, version: Version, will_delay: int, min_delay_s: float
) -> None:
    with subscribed(broker.port, "test") as listening:
        with accepted_by(broker.port, version, will_delay=will_delay, session_expiry=3600):
            lost = time.monotonic()
        listening.wait_for("will", b"gone")
        assert time.monotonic() - lost > min_delay_s


def test_connection_return_within_will_delay_publishes_no_will(broker: Mosquitto) -> None:
    with subscribed(broker.port, "test") as listening:
        more = {"will_delay": 4, "session_expiry": 60}
        with accepted_by(broker.port, **more):
            pass
        with accepted_by(broker.port, **more) as connection:
            due = time.monotonic() + 5
            while time.monotonic() < due:
                connection.poll(0.1)
            connection.publish(Message("test/a", b"", qos=1))
            response(connection)
            listening.flush()
            assert listening.payloads("will") == []


def test_connection_wake_ends_the_wait(broker: Mosquitto) -> None:
    with accepted_by(broker.port) as connection:
        threading.Timer(0.1, connection.wake).start()
        began = time.monotonic()
        connection.poll(PATIENCE)
        assert time.monotonic() - began < 5
    connection.wake()  # closed


class Certificates:
    """An authority, and what it signed, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA()
        self.authority = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.authority)
        self.server, self.client = folder / "server.pem", folder / "client.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(self.server)
        own = authority.issue_cert("camera")
        own.private_key_and_cert_chain_pem.write_to_path(self.client)
        self.client_key = folder / "client.key"
        own.private_key_pem.write_to_path(self.client_key)

    def lines(self, *more: str) -> tuple[str, ...]:
        """The broker's configuration."""
        server = self.server
        return f"cafile {self.authority}", f"certfile {server}", f"keyfile {server}", *more


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certificates")


@pytest.fixture
def tls_broker(tmp_path: Path, certificates: Certificates) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, lines=certificates.lines()) as broker:
        yield broker


def secured(port: int, ca_file: Path, host: str = "localhost", **more: object) -> Broker:
    return broker_from(MqttSettings(host=host, port=port, tls=True, ca_file=ca_file, **more))  # type: ignore[arg-type]


def reason_of(broker: Broker) -> str:
    """Why there is no connection."""
    connection = to_broker(broker)
    try:
        connection.open()
        return str(end_of(connection))
    except ConnectionEnded as end:
        return str(end)
    finally:
        connection.close()


def test_connection_with_tls_sends_and_receives(
    tls_broker: Mosquitto, certificates: Certificates
) -> None:
    trust = ssl.create_default_context(cafile=certificates.authority)
    trust.check_hostname = False
    with subscribed(tls_broker.port, "test", trust) as other:
        connection = to_broker(secured(tls_broker.port, certificates.authority))
        connection.open()
        assert next(notifications(connection, ConnectionAccepted))
        subscribe(connection, "test/set/a")
        for _ in range(50):
            connection.publish(Message("test/faces", b"x" * 20_000))

        def is_received() -> bool:
            connection.poll(0.01)  # which sends what the broker was too busy to read
            return len(other.on("faces")) == 50

        eventually(is_received)
        other.publish("set/a", b"y" * 50_000)
        received = next(notifications(connection, Received))
        assert isinstance(received, Received)
        assert len(received.payload) == 50_000
        connection.close()


# paho leaves the socket of a failed handshake to the garbage collector.
FAILED_HANDSHAKE = pytest.mark.filterwarnings("ignore:.*(SSLSocket|<socket)")


def test_connection_with_tls_reads_all_messages_of_a_record(
    certificates: Certificates,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    message = b"\x30\x07\x00\x03a/b\x00!"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)

        def answer() -> ssl.SSLSocket:
            peer = context.wrap_socket(server.accept()[0], server_side=True)
            peer.recv(1000)
            peer.sendall(CONNACK + 5 * message)
            return peer

        answering = in_thread("broker", answer)
        connection = to_broker(secured(server.getsockname()[1], certificates.authority))
        connection.open()
        with answering.result(PATIENCE):
            began = time.monotonic()
            received = notifications(connection, Received, wait_s=PATIENCE / 3)
            assert [next(received) for _ in range(5)] == 5 * [Received("a/b", b"!", retained=False)]
            assert time.monotonic() - began < PATIENCE / 3
        connection.close()


@FAILED_HANDSHAKE
def test_connection_unknown_authority_is_refused(tls_broker: Mosquitto, tmp_path: Path) -> None:
    other = Certificates(tmp_path / "others")
    reason = reason_of(secured(tls_broker.port, other.authority))
    assert reason.startswith("certificate refused: ")


@FAILED_HANDSHAKE
def test_connection_certificate_of_another_host_is_refused(
    tls_broker: Mosquitto, certificates: Certificates
) -> None:
    reason = reason_of(secured(tls_broker.port, certificates.authority, "127.0.0.1"))
    assert reason.startswith("certificate refused: ")
    assert "127.0.0.1" in reason


@FAILED_HANDSHAKE
def test_connection_with_tls_to_plain_broker_fails(
    broker: Mosquitto, certificates: Certificates
) -> None:
    assert reason_of(secured(broker.port, certificates.authority))


def test_connection_own_certificate_is_accepted(tmp_path: Path, certificates: Certificates) -> None:
    lines = certificates.lines("require_certificate true")
    with Mosquitto(tmp_path, lines=lines) as broker:
        assert reason_of(secured(broker.port, certificates.authority))
        for more in (
            {"certificate_file": certificates.client},
            {"certificate_file": certificates.client, "key_file": certificates.client_key},
        ):
            connection = to_broker(secured(broker.port, certificates.authority, **more))
            connection.open()
            assert next(notifications(connection, ConnectionAccepted))
            connection.close()


def test_connection_over_websockets_sends_and_receives(broker: Mosquitto, tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer secret\nX-Site: 7\n")
    with WebSocketProxy(broker.port) as proxy, subscribed(broker.port, "test") as other:
        settings = MqttSettings(
            host="127.0.0.1",
            port=proxy.port,
            transport="websockets",
            websocket_path="/broker?x=1",
            websocket_headers_file=headers,
        )
        connection = to_broker(broker_from(settings))
        connection.open()
        assert next(notifications(connection, ConnectionAccepted))
        subscribe(connection, "test/set/a")
        for size in (1, 200, 70_000):
            connection.publish(Message("test/a", b"x" * size, qos=1))
            assert response(connection).outcome is PublishOutcome.ACCEPTED
            other.publish("set/a", b"y" * min(size, 50_000))
            received = next(notifications(connection, Received))
            assert isinstance(received, Received)
            assert len(received.payload) == min(size, 50_000)
            connection.acknowledge(received)
        connection.close()
    assert proxy.requests[0].startswith("GET /broker?x=1 HTTP/1.1")
    assert "Authorization: Bearer secret" in proxy.requests[0]
    assert "X-Site: 7" in proxy.requests[0]


@FAILED_HANDSHAKE
def test_connection_websockets_to_plain_broker_fails(broker: Mosquitto) -> None:
    assert reason_of(Broker("127.0.0.1", broker.port, transport="websockets"))


@pytest.mark.parametrize("host", ["a..b", "no-such-host.invalid", "x" * 300])
def test_connection_invalid_name_fails(host: str) -> None:
    assert reason_of(Broker(host, 1883))


def test_connection_wrong_password_is_refused(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, passwords={"me": "right"}) as broker:
        reason = reason_of(Broker("127.0.0.1", broker.port, "me", "wrong"))
        assert reason == "login refused: Not authorized"


def test_connection_closed_without_answer_has_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        with connection_to(server.getsockname()[1]) as connection:
            peer, _ = server.accept()
            peer.recv(1000)
            peer.close()
            assert "mqtt.protocol" in str(end_of(connection))


def test_connection_refused_version_has_its_code() -> None:
    with ScriptedBroker(CONNACK_WRONG_VERSION) as broker, connection_to(broker.port) as connection:
        end = end_of(connection)
        assert isinstance(end, ConnectionRefused)
        assert end.code == UNSUPPORTED_VERSION


def test_connection_without_connack_ends(clock: FakeClock) -> None:
    with ScriptedBroker(b"") as broker, connection_to(broker.port, clock=clock) as connection:
        connection.poll(0.1)
        clock.seconds += CONNECT_TIMEOUT_S + 1
        assert end_of(connection)
