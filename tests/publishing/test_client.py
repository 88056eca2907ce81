"""The client that stays connected, and single messages."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from conftest import FakeClock, Program
from publishing.broker import Mosquitto, subscribed
from publishing.fixtures import Attempts
from publishing.proxy import OldBroker, Proxy
from publishing.scripted import CONNACK, ScriptedBroker, connack
from running import PATIENCE, broker_at, file_limit, free_port

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.config.settings import HomeAssistantSettings, MqttSettings
from edge_daemon.errors import BrokerError
from edge_daemon.publishing import homeassistant
from edge_daemon.publishing.broker import Broker, broker_from
from edge_daemon.publishing.client import (
    DUPLICATE_DELAY_S,
    MAX_SHORT,
    STABLE_S,
    Connected,
    Disconnected,
    MqttClient,
    Update,
    publish_single,
)
from edge_daemon.publishing.messages import (
    ConnectionRefused,
    Message,
    PacketTooLarge,
    Received,
    Subscribed,
    Topics,
)
from edge_daemon.publishing.mqtt import MAX_RECEIVED_BYTES

SESSION_TAKEN_OVER = b"\xe0\x02\x8e\x00"
WILL = Message("test/will", b"gone", retain=True, qos=1)

DISCOVERY = homeassistant.discovery(Topics("edge-daemon", "porch"), HomeAssistantSettings())
BELOW_THE_PREFIX = DISCOVERY.topic.removeprefix("homeassistant/")


@contextmanager
def client_to(
    port: int, clock: Clock | None = None, will: Message | None = WILL, **more: object
) -> Iterator[MqttClient]:
    broker = Broker("127.0.0.1", port, **more)  # type: ignore[arg-type]
    with closing(MqttClient(broker, "camera", clock or SystemClock(), will)) as client:
        yield client


def test_credentials_are_read_before_each_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    with Mosquitto(tmp_path, {"me": "new"}) as broker:
        mqtt = MqttSettings(host="127.0.0.1", port=broker.port, username="me", password_file=file)
        read = partial(broker_from, mqtt)
        client = MqttClient(read(), "camera", SystemClock(), read_broker=read)
        with closing(client):
            refused = next(updates(client, Disconnected))
            assert isinstance(refused, Disconnected)
            assert isinstance(refused.cause, ConnectionRefused)
            file.write_text("new")
            next(updates(client, Connected))
            file.unlink()
            broker.stop()
            broker.start()
            next(updates(client, Connected))
    (record,) = caplog.records
    assert record.msg == "could not read credentials, using the previous ones"
    assert vars(record)["error"].startswith("mqtt.password_file: cannot be read")


def updates(client: MqttClient, *kinds: type[Update]) -> Iterator[Update]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for update in client.poll(0.1):
            if isinstance(update, kinds):
                yield update
    pytest.fail(f"no {' or '.join(kind.__name__ for kind in kinds)}")


def connected(client: MqttClient) -> Connected:
    update = next(updates(client, Connected))
    assert isinstance(update, Connected)
    return update


def disconnected(client: MqttClient) -> Disconnected:
    update = next(updates(client, Disconnected))
    assert isinstance(update, Disconnected)
    return update


def test_client_broker_that_returns_is_found_again(broker: Mosquitto, attempts: Attempts) -> None:
    with client_to(broker.port) as client:
        assert connected(client).away_s is None
        broker.stop()
        assert disconnected(client).is_new
        assert not disconnected(client).is_new
        broker.start()
        assert connected(client).away_s is not None
        assert client.connection_count == 2


@pytest.mark.usefixtures("attempts")
def test_client_old_broker_gets_old_version(broker: Mosquitto) -> None:
    with OldBroker(broker.port) as old, client_to(old.port) as client:
        assert connected(client).version == "3.1.1"
        old.drop_all()
        assert connected(client).version == "3.1.1"


def test_client_fixed_version_is_kept(broker: Mosquitto, attempts: Attempts) -> None:
    with OldBroker(broker.port) as old, client_to(old.port, protocol="5") as client:
        assert "Unsupported protocol version" in disconnected(client).reason
        attempts.wait_for(0)


@pytest.mark.usefixtures("attempts")
def test_client_one_refused_version_is_not_remembered(broker: Mosquitto) -> None:
    """A broker that starts up, or a proxy in front of it, can refuse version 5 once."""
    with (
        OldBroker(broker.port) as starting,
        Proxy(broker.port) as proxy,
        client_to(starting.port) as client,
    ):
        assert connected(client).version == "3.1.1"
        starting.drop_all()
        client.broker = Broker("127.0.0.1", proxy.port)
        assert connected(client).version == "5"


@pytest.mark.parametrize(("reason", "retain", "qos"), [(0x9A, False, 1), (0x9B, True, 0)])
def test_client_will_is_adapted_to_refusal(reason: int, qos: int, *, retain: bool) -> None:
    with ScriptedBroker(connack(reason=reason)) as refusing, client_to(refusing.port) as client:
        refused = next(updates(client, Disconnected))
        assert isinstance(refused, Disconnected)
        flags = [connect[7] for connect in refusing.connects]
    assert [(flag >> 5 & 1, flag >> 3 & 3) for flag in flags] == [(1, 1), (retain, qos)]


def test_client_broker_without_retain_is_used(tmp_path: Path) -> None:
    lines = ("retain_available false",)
    with Mosquitto(tmp_path, lines=lines) as broker, client_to(broker.port) as client:
        assert not connected(client).limits.retain_available


def delays_after(lifetimes: list[float], connack_: bytes = CONNACK) -> list[float]:
    """Delays before reconnecting, after connections of these durations."""
    clock = FakeClock()
    delays = []
    with ScriptedBroker(connack_) as broker, client_to(broker.port, clock) as client:
        for lifetime in lifetimes:
            connected(client)
            clock.seconds += lifetime
            broker.drop_all()
            disconnected(client)
            delays.append(client._next_attempt - clock.monotonic())
            clock.seconds = client._next_attempt + 1
    return delays


def test_client_short_connections_make_delays_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    short, stable = STABLE_S / 2, STABLE_S * 2
    assert delays_after([short] * 4) == [0.5, 1.0, 2.0, 4.0]
    assert delays_after([short, short, stable, short]) == [0.5, 1.0, 0.5, 1.0]


def test_client_repeated_short_connections_are_unstable(attempts: Attempts) -> None:
    with ScriptedBroker() as broker, client_to(broker.port) as client:
        for number in range(MAX_SHORT + 2):
            assert connected(client).is_unstable == (number > MAX_SHORT)
            broker.drop_all()
            update = disconnected(client)
            assert update.is_unstable == (number >= MAX_SHORT)
            assert ("client ID camera" in update.reason) == (number >= MAX_SHORT - 1)


def test_client_session_taken_over_waits_long() -> None:
    clock = FakeClock()
    with (
        ScriptedBroker(CONNACK + SESSION_TAKEN_OVER) as broker,
        client_to(broker.port, clock) as client,
    ):
        assert "client ID camera" in disconnected(client).reason
        assert client._next_attempt - clock.monotonic() >= DUPLICATE_DELAY_S / 2


@pytest.mark.usefixtures("attempts")
def test_client_large_packet_discards_session(broker: Mosquitto) -> None:
    """With MQTT 3.1.1, the broker would send it at every connect."""
    target = {"protocol": "3.1.1", "session_expiry": 60}
    with client_to(broker.port, **target) as client:
        connected(client)
        assert client.connection is not None
        client.connection.subscribe(["test/set/a"])
        assert next(updates(client, Subscribed))
    with subscribed(broker.port, "test") as other:
        other.publish("set/a", b"x" * (2 * MAX_RECEIVED_BYTES))
        with client_to(broker.port, **target) as client:
            assert isinstance(disconnected(client).cause, PacketTooLarge)
            connected(client)
            assert client.connection is not None
            client.connection.subscribe(["test/set/a"])
            assert next(updates(client, Subscribed))
            other.publish("set/a", b"ON")
            received = next(updates(client, Received, Disconnected))
            assert isinstance(received, Received)
            assert received.payload == b"ON"


def test_client_hanging_name_resolution_blocks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released, called = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        called.set()
        released.wait(PATIENCE)
        return []

    monkeypatch.setattr("socket.getaddrinfo", hang)
    client = MqttClient(Broker("slow.example", 1883), "camera", SystemClock())
    began = time.monotonic()
    while not called.is_set():
        assert client.poll(0.1) == []
    client.poll(0.1)
    client.close()
    assert time.monotonic() - began < PATIENCE / 2
    released.set()


@pytest.mark.usefixtures("attempts")
def test_client_without_file_descriptors_retries(broker: Mosquitto) -> None:
    with client_to(broker.port) as client:
        with file_limit(3):
            assert "Too many open files" in disconnected(client).reason
        assert connected(client)


def test_client_with_high_file_descriptors_connects(broker: Mosquitto) -> None:
    with ExitStack() as opened:
        opened.enter_context(file_limit(2048))
        while opened.enter_context(socket.socket()).fileno() < 1100:
            pass
        assert connected(opened.enter_context(client_to(broker.port)))


def test_client_wake_ends_the_wait_for_the_next_attempt() -> None:
    with client_to(free_port()) as client:
        disconnected(client)
        client._next_attempt += PATIENCE
        threading.Timer(0.1, client.wake).start()
        began = time.monotonic()
        client.poll(PATIENCE)
        assert time.monotonic() - began < 5


def at(port: int, username: str | None = None, password: str | None = None) -> Broker:
    return Broker("127.0.0.1", port, username, password, keepalive=5)


def retained(port: int) -> list[bytes]:
    """The device's discovery as a new subscriber finds it."""
    with subscribed(port, "homeassistant") as late:
        late.flush()
        return late.payloads(BELOW_THE_PREFIX)


def test_single_message_is_with_the_broker_at_return(broker: Mosquitto) -> None:
    assert publish_single(at(broker.port), DISCOVERY) == "5"
    assert retained(broker.port) == [DISCOVERY.payload]


def test_single_message_to_old_broker_is_sent(broker: Mosquitto) -> None:
    with OldBroker(broker.port) as old:
        assert publish_single(at(old.port), DISCOVERY) == "3.1.1"


def test_single_message_without_broker_raises_with_address() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=rf"^broker 127\.0\.0\.1:{port}: "):
        publish_single(at(port), DISCOVERY)


def test_single_message_with_wrong_password_raises(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, passwords={"porch": "right"}) as guarded:
        publish_single(at(guarded.port, "porch", "right"), DISCOVERY)
        with pytest.raises(BrokerError, match="Not authorized"):
            publish_single(at(guarded.port, "porch", "wrong"), DISCOVERY)


def test_single_message_without_right_raises(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, rights=("topic readwrite edge-daemon/#",)) as guarded:
        publish_single(at(guarded.port), Message("edge-daemon/porch/state", b"", qos=1))
        with pytest.raises(BrokerError, match="Not authorized"):
            publish_single(at(guarded.port), DISCOVERY)


def test_single_message_too_large_raises(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path, lines=("max_packet_size 500",)) as small,
        pytest.raises(BrokerError, match="maximum packet size"),
    ):
        publish_single(at(small.port), DISCOVERY)


def test_single_message_without_answer_raises_in_time() -> None:
    with ScriptedBroker(b"") as silent, pytest.raises(BrokerError):
        publish_single(at(silent.port), DISCOVERY, timeout_s=0.3)


def _hang_up(server: socket.socket) -> None:
    server.accept()[0].close()


def test_single_message_closed_connection_raises_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        rude.settimeout(PATIENCE)
        answering = threading.Thread(target=_hang_up, args=(rude,))
        answering.start()
        with pytest.raises(BrokerError):
            publish_single(at(rude.getsockname()[1]), DISCOVERY, timeout_s=PATIENCE)
        answering.join(PATIENCE)


def remove(program: Program, port: int, *words: object) -> subprocess.CompletedProcess[str]:
    broker = broker_at(port)
    return program("homeassistant", "remove", "--set", "device_id=porch", *broker, *words)


def test_remove_command_empties_the_discovery(program: Program, broker: Mosquitto) -> None:
    publish_single(at(broker.port), DISCOVERY)
    with subscribed(broker.port, "homeassistant") as listening:
        done = remove(program, broker.port)
        listening.wait_for(BELOW_THE_PREFIX, DISCOVERY.payload, b"")
    assert (done.returncode, done.stderr) == (0, "")
    assert "porch" in done.stdout
    assert retained(broker.port) == []


def test_remove_command_leaves_other_devices_and_prefixes(
    program: Program, broker: Mosquitto
) -> None:
    publish_single(at(broker.port), DISCOVERY)
    assert remove(program, broker.port, "--set", "homeassistant.prefix=ha").returncode == 0
    assert remove(program, broker.port, "--set", "device_id=hall").returncode == 0
    assert retained(broker.port) == [DISCOVERY.payload]


def test_remove_command_without_broker_exits_with_1(program: Program) -> None:
    port = free_port()
    done = remove(program, port)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"edge-daemon: broker 127.0.0.1:{port}: ")
