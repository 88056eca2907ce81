"""One connection, with a real broker at its other end."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from builders import result
from publishing.broker import Mosquitto, subscribed
from publishing.fixtures import CONNECTED, LOST, Attempts, MakePublisher, Told, outbox_in, serving
from publishing.proxy import CONNACK_WRONG_VERSION, OldBroker
from running import PATIENCE, eventually

from edge_daemon.config.settings import MqttSettings
from edge_daemon.pipeline import in_thread
from edge_daemon.publishing.broker import Broker, broker_from
from edge_daemon.publishing.duplicate_client import SUSPICIOUS
from edge_daemon.publishing.mqtt import (
    Accepted,
    Acknowledged,
    Connection,
    ConnectionEnded,
    Happening,
    Received,
    Reception,
)
from edge_daemon.publishing.topics import Message

CONNACK, SESSION_TAKEN_OVER = b"\x20\x03\x00\x00\x00", b"\xe0\x02\x8e\x00"

WILL = Message("test/will", b"gone", retain=True, qos=1)


@contextmanager
def connection_to(
    port: int, version: str = "5", client_id: str = "camera", **more: object
) -> Iterator[Connection]:
    broker = Broker("127.0.0.1", port, keepalive=5, **more)  # type: ignore[arg-type]
    connection = Connection(broker, client_id, version, WILL)
    try:
        connection.open()
        yield connection
    finally:
        connection.close()


def happenings(
    connection: Connection, *wanted: type[Happening], wait: float = 0.1
) -> Iterator[Happening]:
    """What happens of these kinds, as it comes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for happening in connection.turn(wait):
            if isinstance(happening, wanted):
                yield happening
    pytest.fail(f"no {' or '.join(kind.__name__ for kind in wanted)} came")


@contextmanager
def accepted_by(port: int, version: str = "5", **more: object) -> Iterator[Connection]:
    with connection_to(port, version, **more) as connection:
        assert next(happenings(connection, Accepted))
        yield connection


def hear(connection: Connection, topic: str) -> None:
    """Subscribe, and see it done: the broker takes what one client sends in turn.

    What is retained there would come first, and is none of our business.
    """
    connection.subscribe([topic])
    connection.publish(Message("test/b", b"", qos=1))
    assert isinstance(next(happenings(connection, Acknowledged, Received)), Acknowledged)


def end_of(connection: Connection) -> str:
    with pytest.raises(ConnectionEnded) as end:
        next(happenings(connection, Accepted))
    return str(end.value)


VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@VERSIONS
def test_messages_are_acknowledged_by_their_number(broker: Mosquitto, version: str) -> None:
    with subscribed(broker.port, "test"), accepted_by(broker.port, version) as connection:
        numbers = [connection.publish(Message("test/a", b"1", qos=1)) for _ in range(3)]
        assert connection.room == 17
        answers = happenings(connection, Acknowledged)
        for number in numbers:
            answer = next(answers)
            assert isinstance(answer, Acknowledged)
            assert (answer.number, answer.topic) == (number, "test/a")
            assert answer.reception is Reception.ACCEPTED
        assert connection.room == 20


def test_message_that_nobody_hears_is_told_apart_by_version_5(broker: Mosquitto) -> None:
    for version, reception in (("5", Reception.UNHEARD), ("3.1.1", Reception.ACCEPTED)):
        with accepted_by(broker.port, version) as connection:
            connection.publish(Message("test/a", b"1", qos=1))
            answer = next(happenings(connection, Acknowledged))
            assert isinstance(answer, Acknowledged)
            assert answer.reception is reception


def test_message_without_the_right_to_publish_is_refused(tmp_path: Path) -> None:
    rights = ("topic read #",)
    with Mosquitto(tmp_path, rights=rights) as broker, accepted_by(broker.port) as connection:
        connection.publish(Message("test/a", b"1", qos=1))
        answer = next(happenings(connection, Acknowledged))
        assert isinstance(answer, Acknowledged)
        assert (answer.reception, answer.reason) == (Reception.REFUSED, "Not authorized")


@VERSIONS
def test_what_others_send_is_received(broker: Mosquitto, version: str) -> None:
    with subscribed(broker.port, "test") as other, accepted_by(broker.port, version) as connection:
        hear(connection, "test/set/a")
        other.publish("set/a", b"ON")
        received = next(happenings(connection, Received))
        assert received == Received("test/set/a", b"ON", retained=False)


def test_what_the_broker_retains_is_known_as_such_by_the_old_version_and_not_sent_to_the_new(
    broker: Mosquitto,
) -> None:
    with subscribed(broker.port, "test") as other:
        other.publish("set/a", b"old", retain=True)
        with accepted_by(broker.port, "3.1.1") as connection:
            connection.subscribe(["test/set/a"])
            received = next(happenings(connection, Received))
            assert received == Received("test/set/a", b"old", retained=True)
        with accepted_by(broker.port, "5") as connection:
            hear(connection, "test/set/a")
            other.publish("set/a", b"new", retain=True)
            received = next(happenings(connection, Received))
            assert received == Received("test/set/a", b"new", retained=False)


@VERSIONS
def test_commands_sent_while_we_were_away_come_if_the_session_is_kept(
    broker: Mosquitto, version: str
) -> None:
    with accepted_by(broker.port, version, session_expiry=60) as connection:
        hear(connection, "test/set/a")
        connection.disconnect()
    with subscribed(broker.port, "test") as other:
        other.publish("set/a", b"ON")
    with accepted_by(broker.port, version, session_expiry=60) as connection:
        received = next(happenings(connection, Received))
        assert received == Received("test/set/a", b"ON", retained=False)


def test_broker_that_wants_fewer_messages_at_once_gets_fewer(tmp_path: Path) -> None:
    lines = ("max_inflight_messages 3",)
    with Mosquitto(tmp_path, lines=lines) as broker, accepted_by(broker.port) as connection:
        assert connection.room == 3


def test_leave_makes_the_broker_forget_the_will_and_a_loss_does_not(broker: Mosquitto) -> None:
    with subscribed(broker.port, "test") as listening:
        with accepted_by(broker.port) as connection:
            connection.disconnect()
        with accepted_by(broker.port, client_id="other"):
            pass
        listening.wait_for("will", b"gone")
        listening.flush()
        assert listening.payloads("will") == [b"gone"]


@VERSIONS
def test_will_waits_for_its_delay_where_the_version_knows_it(
    broker: Mosquitto, version: str
) -> None:
    with subscribed(broker.port, "test") as listening:
        with accepted_by(broker.port, version, will_delay=2, session_expiry=60):
            lost = time.monotonic()
        listening.wait_for("will", b"gone")
        assert (time.monotonic() - lost > 1) == (version == "5")


def test_sign_of_life_comes_back_within_the_delay_and_no_will_is_published(
    broker: Mosquitto,
) -> None:
    with subscribed(broker.port, "test") as listening:
        more = {"will_delay": 2, "session_expiry": 60}
        with accepted_by(broker.port, **more):
            pass
        with accepted_by(broker.port, **more) as connection:
            time.sleep(3)
            connection.publish(Message("test/a", b"", qos=1))
            next(happenings(connection, Acknowledged))
            listening.flush()
            assert listening.payloads("will") == []


def test_wake_ends_the_waiting_at_once(broker: Mosquitto) -> None:
    with accepted_by(broker.port) as connection:
        threading.Timer(0.1, connection.wake).start()
        began = time.monotonic()
        connection.turn(PATIENCE)
        assert time.monotonic() - began < 5
    connection.wake()  # closed: nobody to wake


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
    connection = Connection(broker, "camera", "5", WILL)
    try:
        connection.open()
        return end_of(connection)
    except ConnectionEnded as end:
        return str(end)
    finally:
        connection.close()


def test_with_tls_messages_go_and_come(tls_broker: Mosquitto, certificates: Certificates) -> None:
    trust = ssl.create_default_context(cafile=certificates.authority)
    trust.check_hostname = False
    with subscribed(tls_broker.port, "test", trust) as other:
        broker = secured(tls_broker.port, certificates.authority)
        connection = Connection(broker, "camera", "5", WILL)
        connection.open()
        assert next(happenings(connection, Accepted))
        connection.subscribe(["test/set/a"])
        for _ in range(50):
            connection.publish(Message("test/faces", b"x" * 20_000))
            connection.turn(0.01)
        other.wait_until(lambda: len(other.on("faces")) == 50)
        other.publish("set/a", b"y" * 50_000)
        received = next(happenings(connection, Received))
        assert isinstance(received, Received)
        assert len(received.payload) == 50_000
        connection.close()


# paho leaves the socket of a failed handshake to the collector.
FAILED_HANDSHAKE = pytest.mark.filterwarnings("ignore:.*SSLSocket")


def test_messages_that_come_encrypted_in_one_piece_are_all_read_at_once(
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
        broker = secured(server.getsockname()[1], certificates.authority)
        connection = Connection(broker, "camera", "5", WILL)
        connection.open()
        with answering.result(PATIENCE):
            began = time.monotonic()
            received = happenings(connection, Received, wait=1.0)
            assert [next(received) for _ in range(5)] == 5 * [Received("a/b", b"!", retained=False)]
            assert time.monotonic() - began < 1
        connection.close()


@FAILED_HANDSHAKE
def test_unknown_authority_is_refused_with_its_reason(
    tls_broker: Mosquitto, tmp_path: Path
) -> None:
    other = Certificates(tmp_path / "others")
    reason = reason_of(secured(tls_broker.port, other.authority))
    assert reason.startswith("certificate refused: ")
    assert "issuer" in reason or "self-signed" in reason


@FAILED_HANDSHAKE
def test_certificate_of_another_host_is_refused_with_its_reason(
    tls_broker: Mosquitto, certificates: Certificates
) -> None:
    reason = reason_of(secured(tls_broker.port, certificates.authority, "127.0.0.1"))
    assert reason.startswith("certificate refused: ")
    assert "127.0.0.1" in reason


@FAILED_HANDSHAKE
def test_broker_without_tls_is_no_connection(broker: Mosquitto, certificates: Certificates) -> None:
    assert reason_of(secured(broker.port, certificates.authority))


def test_own_certificate_opens_a_broker_that_asks_for_one(
    tmp_path: Path, certificates: Certificates
) -> None:
    lines = certificates.lines("require_certificate true")
    with Mosquitto(tmp_path, lines=lines) as broker:
        without = secured(broker.port, certificates.authority)
        assert "socket" in reason_of(without)
        for more in (
            {"certificate_file": certificates.client},
            {"certificate_file": certificates.client, "key_file": certificates.client_key},
        ):
            known = secured(broker.port, certificates.authority, **more)
            connection = Connection(known, "camera", "5", WILL)
            connection.open()
            assert next(happenings(connection, Accepted))
            connection.close()


def test_name_that_cannot_be_one_is_no_connection() -> None:
    for host in ("a..b", "no-such-host.invalid", "x" * 300):
        assert reason_of(Broker(host, 1883))


def test_refusal_of_a_login_is_its_reason(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, passwords={"me": "right"}) as broker:
        reason = reason_of(Broker("127.0.0.1", broker.port, "me", "wrong"))
        assert reason == "connection refused: Not authorized"


def test_broker_that_hangs_up_without_a_word_is_told_with_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        with connection_to(server.getsockname()[1]) as connection:
            peer, _ = server.accept()
            peer.recv(1000)
            peer.close()
            reason = end_of(connection)
    assert "without an answer" in reason
    assert "mqtt.protocol" in reason


def test_broker_that_knows_neither_version_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        with connection_to(server.getsockname()[1], "3.1.1") as connection:
            peer, _ = server.accept()
            with peer:
                peer.sendall(CONNACK_WRONG_VERSION)
                assert end_of(connection) == "Protocol error"
            server.settimeout(0.3)
            with pytest.raises(TimeoutError):
                server.accept()


@pytest.fixture
def old_broker(broker: Mosquitto) -> Iterator[OldBroker]:
    with OldBroker(broker.port) as old:
        yield old


@pytest.mark.usefixtures("attempts")
def test_broker_that_knows_only_the_old_version_is_spoken_to_in_it(
    make_publisher: MakePublisher, broker: Mosquitto, old_broker: OldBroker, topic: str, told: Told
) -> None:
    publisher = make_publisher(old_broker.port)
    with subscribed(broker.port, topic) as subscriber:
        with serving(publisher):
            assert told.wait_for(CONNECTED)["mqtt"] == "3.1.1"
            publisher(result(0.0, {}))
            old_broker.drop_all()
            assert told.wait_for(CONNECTED, 2)["mqtt"] == "3.1.1"
        subscriber.wait_until(lambda: b"offline" in subscriber.payloads("availability"))
    assert old_broker.refused == 1, "the version is not remembered"
    assert [words for words in told.warnings() if LOST not in words] == []


@pytest.mark.usefixtures("attempts")
def test_version_that_was_asked_for_is_not_given_up(
    make_publisher: MakePublisher, old_broker: OldBroker, attempts: Attempts, told: Told
) -> None:
    broker = Broker("127.0.0.1", old_broker.port, protocol="5")
    with serving(make_publisher(0, broker=broker)):
        attempts.wait_for(3)
    assert "Unsupported protocol version" in str(told.of(LOST)[0]["reason"])
    assert told.of(CONNECTED) == []


@pytest.mark.usefixtures("attempts")
def test_twin_with_the_same_id_is_told_and_left_alone(
    make_publisher: MakePublisher, broker: Mosquitto, tmp_path: Path, told: Told
) -> None:
    with outbox_in(tmp_path / "other") as outbox:
        first, second = make_publisher(broker.port), make_publisher(broker.port, outbox=outbox)
        with serving(first), serving(second):
            told.wait_for(LOST, 2 * SUSPICIOUS)
            eventually(
                lambda: sum("camera" in str(record["reason"]) for record in told.of(LOST)) == 2
            )
            count = len(told.records)
            time.sleep(1)
            assert len(told.records) == count, "they fill the log"


def test_broker_that_tells_of_a_twin_is_left_to_it(
    make_publisher: MakePublisher, told: Told, attempts: Attempts
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        with serving(make_publisher(server.getsockname()[1])):
            peer, _ = server.accept()
            with peer:
                peer.sendall(CONNACK + SESSION_TAKEN_OVER)
                reason = str(told.wait_for(LOST)["reason"])
            server.settimeout(0.5)
            with pytest.raises(TimeoutError):
                server.accept()
    assert reason == "Session taken over; does another client have the id camera?"


def test_name_that_is_long_looked_up_holds_up_neither_the_outbox_nor_the_end(
    make_publisher: MakePublisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, asked = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        asked.set()
        released.wait(PATIENCE)
        return []

    with outbox_in(tmp_path / "state") as outbox:
        tended = threading.Event()
        monkeypatch.setattr(outbox, "tend", tended.set)
        publisher = make_publisher(0, broker=Broker("slow.example", 1883), outbox=outbox)
        monkeypatch.setattr("socket.getaddrinfo", hang)
        with serving(publisher) as thread:
            assert asked.wait(PATIENCE)
            tended.clear()
            assert tended.wait(PATIENCE)
            stopped = time.monotonic()
            publisher.stop()
            thread.join(PATIENCE)
            assert time.monotonic() - stopped < 1
        released.set()


def test_broker_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = Broker("127.0.0.1", silent.getsockname()[1], keepalive=1)
        began = time.monotonic()
        assert reason_of(broker)
        assert time.monotonic() - began < PATIENCE
