import gc
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Program
from deploy.brokers import make_certificates
from publishing.broker import Mosquitto, subscribed
from publishing.test_mqtt import FAILED_HANDSHAKE
from running import broker_at, free_port, running

from edge_daemon.commands.check import Finding, Level, check_broker
from edge_daemon.config.settings import Settings

pytestmark = FAILED_HANDSHAKE


@pytest.fixture(autouse=True)
def _closed_sockets() -> Iterator[None]:
    """Collect the sockets of failed handshakes here, so that no later module reports them."""
    yield
    gc.collect()


def found_at(port: int, **mqtt: object) -> Finding:
    values = {"host": "127.0.0.1", "port": port, **mqtt}
    return check_broker(Settings.model_validate({"device_id": "porch", "mqtt": values}))


def failure_at(port: int, **mqtt: object) -> str:
    found = found_at(port, **mqtt)
    assert found.level is Level.FAIL
    assert found.message.startswith(f"127.0.0.1:{port}: ")
    return found.message


def password_file(folder: Path, password: str) -> Path:
    file = folder / password
    file.write_text(password)
    return file


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("auto", "messages accepted, MQTT 5, without TLS"),
        ("3.1.1", "login accepted, MQTT 3.1.1, without TLS"),
    ],
)
def test_broker_accepting_messages_passes(tmp_path: Path, protocol: str, expected: str) -> None:
    with Mosquitto(tmp_path) as broker:
        assert found_at(broker.port, protocol=protocol).message.endswith(expected)


def test_broker_absent_fails_with_hint() -> None:
    assert "start the broker" in failure_at(free_port())


def test_broker_unknown_host_name_fails() -> None:
    found = check_broker(Settings.model_validate({"mqtt": {"host": "nowhere.invalid"}}))
    assert found.level is Level.FAIL
    assert found.message.endswith("check mqtt.host")


def test_broker_wrong_password_fails(tmp_path: Path) -> None:
    files = {name: password_file(tmp_path, name) for name in ("right", "wrong")}
    with Mosquitto(tmp_path, passwords={"porch": "right"}) as broker:
        right = found_at(broker.port, username="porch", password_file=files["right"])
        assert right.level is Level.OK
        message = failure_at(broker.port, username="porch", password_file=files["wrong"])
    assert message.endswith("check mqtt.username and mqtt.password_file")


def test_broker_user_without_publish_right_fails(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, rights=("topic read edge-daemon/#",)) as broker:
        message = failure_at(broker.port)
    assert "edge-daemon/porch/check: refused" in message
    assert "allow this user to publish" in message


def with_tls(folder: Path) -> Mosquitto:
    make_certificates(folder / "certs")
    keys = (f"certfile {folder}/certs/server.crt", f"keyfile {folder}/certs/server.key")
    return Mosquitto(folder, lines=keys)


def test_broker_certificate_of_unknown_authority_fails(tmp_path: Path) -> None:
    make_certificates(tmp_path / "others")
    with with_tls(tmp_path) as broker:
        trusted = found_at(broker.port, tls=True, ca_file=tmp_path / "certs" / "ca.crt")
        assert trusted.message.endswith("with TLS")
        message = failure_at(broker.port, tls=True, ca_file=tmp_path / "others" / "ca.crt")
        assert "mqtt.ca_file must have" in message


@pytest.mark.parametrize("tls", [True, False])
def test_broker_tls_mismatch_fails(tmp_path: Path, tls: bool) -> None:  # noqa: FBT001
    with Mosquitto(tmp_path) if tls else with_tls(tmp_path) as broker:
        assert failure_at(broker.port, tls=tls).endswith("check whether this port needs mqtt.tls")


def test_broker_silent_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.publishing.client.publish_single.__defaults__", (0.2,))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "check that it is an MQTT broker" in failure_at(silent.getsockname()[1])


def test_broker_check_leaves_the_running_daemon_connected(
    tmp_path: Path, program: Program, drawn_clip: Path
) -> None:
    with Mosquitto(tmp_path) as broker:
        words = (
            *broker_at(broker.port),
            # Without a camera, the daemon goes offline later than a busy machine has checked.
            *("--set", "device_id=porch", "--detector", "haar", "--set", "mqtt.stale_after=600"),
        )
        with (
            subscribed(broker.port, "edge-daemon/porch") as listening,
            running(tmp_path, "--source", "http://127.0.0.1:9/", *words) as daemon,
        ):
            listening.wait_for("availability", b"online")
            before = len(listening.messages)
            done = program("check", "--source", drawn_clip, *words, "--json")
            listening.wait_for("check", b"")
            listening.flush()
            since = [message.topic for message in listening.messages[before:]]
            assert daemon.process.poll() is None
            assert sum("connected to the broker" in line for line in daemon.err) == 1
    levels = {check["check"]: check["level"] for check in json.loads(done.stdout)["checks"]}
    assert levels["broker"] == "ok"
    published = {topic.rpartition("/")[2] for topic in since}
    assert "check" in published
    assert not {"availability", "event", "faces"} & published
