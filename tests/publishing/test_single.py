import socket
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import Program
from publishing.broker import Mosquitto, subscribed
from running import PATIENCE, broker_at, free_port

from edge_daemon.errors import BrokerError
from edge_daemon.publishing import homeassistant
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.single import publish_once
from edge_daemon.publishing.topics import Message, Topics

DISCOVERY = homeassistant.discovery(
    "porch", Topics("edge-daemon", "porch"), "homeassistant", 90, "1.2.3"
)
BELOW_THE_PREFIX = DISCOVERY.topic.removeprefix("homeassistant/")


def at(port: int, username: str | None = None, password: str | None = None) -> Broker:
    return Broker("127.0.0.1", port, username, password, keepalive=5)


def retained(port: int) -> list[bytes]:
    """What someone who comes now finds of the device's discovery."""
    with subscribed(port, "homeassistant") as late:
        late.flush()
        return late.payloads(BELOW_THE_PREFIX)


def test_message_is_with_the_broker_when_it_returns(broker: Mosquitto) -> None:
    publish_once(at(broker.port), DISCOVERY)
    assert retained(broker.port) == [DISCOVERY.payload]


def test_broker_that_is_not_there_is_told_with_its_address() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=rf"^broker 127\.0\.0\.1:{port}: .*refused"):
        publish_once(at(port), DISCOVERY)


def test_wrong_password_is_told_as_a_refusal(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, passwords={"porch": "right"}) as guarded:
        publish_once(at(guarded.port, "porch", "right"), DISCOVERY)
        with pytest.raises(BrokerError, match="refused: Not authorized"):
            publish_once(at(guarded.port, "porch", "wrong"), DISCOVERY)


def test_topic_that_may_not_be_written_is_told_as_a_refusal(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, rights=("topic readwrite edge-daemon/#",)) as guarded:
        publish_once(at(guarded.port), Message("edge-daemon/porch/state", b"", qos=1))
        with pytest.raises(BrokerError, match="refused: Not authorized"):
            publish_once(at(guarded.port), DISCOVERY)


def test_one_that_never_answers_is_given_up_in_time_and_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        with pytest.raises(BrokerError, match="no answer"):
            publish_once(at(silent.getsockname()[1]), DISCOVERY, timeout=0.3)
        peer, _ = silent.accept()
        with peer:
            peer.settimeout(PATIENCE)
            while peer.recv(4096):
                pass


def test_one_that_hangs_up_is_given_up_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        rude.settimeout(PATIENCE)

        def hang_up() -> None:
            rude.accept()[0].close()

        answering = threading.Thread(target=hang_up)
        answering.start()
        with pytest.raises(BrokerError, match=r"^broker 127\.0\.0\.1:"):
            publish_once(at(rude.getsockname()[1]), DISCOVERY, timeout=PATIENCE)
        answering.join(PATIENCE)


def remove(program: Program, port: int, *words: object) -> subprocess.CompletedProcess[str]:
    broker = broker_at(port)
    return program("homeassistant", "remove", "--set", "device_id=porch", *broker, *words)


def test_command_takes_the_device_out_of_home_assistant(
    program: Program, broker: Mosquitto
) -> None:
    publish_once(at(broker.port), DISCOVERY)
    with subscribed(broker.port, "homeassistant") as listening:
        done = remove(program, broker.port)
        listening.wait_for(BELOW_THE_PREFIX, DISCOVERY.payload, b"")
    assert (done.returncode, done.stderr) == (0, "")
    assert "porch is removed from Home Assistant" in done.stdout
    assert retained(broker.port) == []


def test_command_keeps_to_the_prefix_and_leaves_other_devices_alone(
    program: Program, broker: Mosquitto
) -> None:
    publish_once(at(broker.port), DISCOVERY)
    assert remove(program, broker.port, "--set", "homeassistant.prefix=ha").returncode == 0
    assert remove(program, broker.port, "--set", "device_id=hall").returncode == 0
    assert retained(broker.port) == [DISCOVERY.payload]


def test_command_that_cannot_reach_the_broker_is_one_line_and_exit_code_1(
    program: Program,
) -> None:
    port = free_port()
    done = remove(program, port)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"edge-daemon: broker 127.0.0.1:{port}: ")
