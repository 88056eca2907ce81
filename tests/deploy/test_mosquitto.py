"""The files of deploy/mosquitto, with real brokers."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.brokers import ConfiguredMosquitto, make_certificates, member

USERS = ("hall", "porch", "homeassistant", "reader", "site-a")
PASSWORDS = {name: name for name in USERS}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ConfiguredMosquitto]:
    mosquitto = ConfiguredMosquitto(tmp_path / "fleet", PASSWORDS, "fleet.conf")
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.mark.parametrize(
    ("user", "password"), [("hall", "wrong"), ("stranger", "stranger"), (None, "")]
)
def test_client_without_password_is_refused(
    broker: ConfiguredMosquitto, user: str | None, password: str
) -> None:
    with member(broker, user, password) as stranger:
        assert stranger.refusal == "Not authorized"


def test_broker_certificate_of_unknown_authority_is_refused(
    broker: ConfiguredMosquitto, tmp_path: Path
) -> None:
    make_certificates(tmp_path / "other")
    context = ssl.create_default_context(cafile=tmp_path / "other" / "ca.crt")
    with (
        socket.create_connection(("127.0.0.1", broker.port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.parametrize(
    ("user", "topic", "allowed"),
    [
        ("hall", "edge-daemon/hall/state", True),
        ("hall", "edge-daemon/porch/state", False),
        ("hall", "edge-daemon/porch/set/paused", False),
        ("hall", "homeassistant/device/edge_daemon_hall/config", True),
        ("hall", "homeassistant/device/edge_daemon_porch/config", False),
        ("hall", "homeassistant/status", False),
        ("hall", "anything", False),
        ("homeassistant", "edge-daemon/hall/set/paused", True),
        ("homeassistant", "edge-daemon/hall/event", False),
        ("homeassistant", "homeassistant/status", True),
        ("reader", "edge-daemon/hall/set/paused", False),
        ("reader", "edge-daemon/hall/event", False),
        ("site-a", "edge-daemon/hall/event", True),
        ("site-a", "edge-daemon-sites/site-b", False),
    ],
)
def test_user_may_publish_on_its_own_topics_only(
    broker: ConfiguredMosquitto, user: str, topic: str, *, allowed: bool
) -> None:
    with member(broker, user) as client:
        assert client.publish(topic) is allowed


def test_device_receives_its_own_commands_only(broker: ConfiguredMosquitto) -> None:
    with (
        member(broker, "hall") as hall,
        member(broker, "porch") as porch,
        member(broker, "homeassistant") as home,
    ):
        hall.subscribe("#")
        assert porch.publish("edge-daemon/porch/event", "of another")
        assert home.publish("edge-daemon/porch/set/paused", "for another")
        assert home.publish("edge-daemon/hall/set/paused", "ON")
        assert home.publish("homeassistant/status", "online")
        hall.wait_for("ON", "online")


def test_reader_receives_the_messages_of_all_devices(broker: ConfiguredMosquitto) -> None:
    with (
        member(broker, "reader") as reader,
        member(broker, "hall") as hall,
        member(broker, "porch") as porch,
    ):
        reader.subscribe("edge-daemon/+/event")
        assert hall.publish("edge-daemon/hall/event", "1")
        assert porch.publish("edge-daemon/porch/event", "2")
        reader.wait_for("1", "2")


def test_retained_messages_survive_a_broker_restart(broker: ConfiguredMosquitto) -> None:
    with member(broker, "reader", session=600) as reader:
        reader.subscribe("edge-daemon/+/event")
    with member(broker, "hall") as hall:
        assert hall.publish("edge-daemon/hall/state", "kept", retain=True)
        assert hall.publish("edge-daemon/hall/event", "queued")
    broker.stop()
    broker.start()
    with member(broker, "reader", session=600) as reader:
        reader.wait_for("queued")
        reader.subscribe("edge-daemon/+/state")
        reader.wait_for("queued", "kept")


def test_shared_subscription_delivers_each_event_to_one_client(
    broker: ConfiguredMosquitto,
) -> None:
    with (
        member(broker, "reader") as one,
        member(broker, "reader") as other,
        member(broker, "hall") as hall,
    ):
        for consumer in (one, other):
            consumer.subscribe("$share/database/edge-daemon/+/event")
        sent = [str(number) for number in range(20)]
        assert all(hall.publish("edge-daemon/hall/event", payload) for payload in sent)
        one.wait_until(lambda: len(one.received) + len(other.received) == len(sent))
        assert sorted(one.payloads + other.payloads, key=int) == sent
        assert min(len(one.received), len(other.received)) > 0


class Bridged:
    """A central broker, and a site's that is bridged to it."""

    def __init__(self, folder: Path) -> None:
        self.centre = ConfiguredMosquitto(folder / "centre", PASSWORDS, "fleet.conf")
        self.site = ConfiguredMosquitto(
            folder / "site",
            PASSWORDS,
            *("fleet.conf", "bridge.conf"),
            elsewhere={
                "central.example.org:8883": f"127.0.0.1:{self.centre.port}",
                f"{folder / 'site'}/certs/ca.crt": str(self.centre.authority),
                "remote_password secret": "remote_password site-a",
                "restart_timeout 1 30": "restart_timeout 1",
            },
        )

    def start(self) -> None:
        self.centre.start()
        self.site.start()

    def wait_until_joined(self) -> None:
        with member(self.centre, "reader") as reader:
            reader.subscribe("edge-daemon-sites/site-a")
            reader.wait_until(lambda: reader.payloads[-1:] == ["1"])

    def stop(self) -> None:
        self.site.stop()
        self.centre.stop()


@pytest.fixture
def bridged(tmp_path: Path) -> Iterator[Bridged]:
    both = Bridged(tmp_path)
    both.start()
    both.wait_until_joined()
    yield both
    both.stop()


def test_bridge_forwards_messages_up_and_commands_down(bridged: Bridged) -> None:
    with (
        member(bridged.site, "hall") as hall,
        member(bridged.centre, "reader") as reader,
        member(bridged.centre, "homeassistant") as home,
    ):
        reader.subscribe("edge-daemon/#")
        hall.subscribe("edge-daemon/hall/set/paused")
        for kind in ("availability", "state", "health", "event", "faces"):
            assert hall.publish(f"edge-daemon/hall/{kind}", kind, retain=kind == "state")
        reader.wait_until(lambda: len(reader.received) == 5)
        assert {message.topic.rpartition("/")[2] for message in reader.received} == {
            *reader.payloads
        }
        assert home.publish("edge-daemon/hall/set/paused", "ON")
        hall.wait_for("ON")
        reader.wait_until(lambda: reader.payloads.count("ON") == 1)
        with member(bridged.centre, "reader") as late:
            late.subscribe("edge-daemon/#")
            late.wait_for("state")
            assert late.received[0].retain


def test_bridge_queues_events_while_the_centre_is_unreachable(bridged: Bridged) -> None:
    with member(bridged.centre, "reader", session=600) as reader:
        reader.subscribe("edge-daemon/+/event")
    bridged.centre.stop()
    sent = [str(number) for number in range(50)]
    with member(bridged.site, "hall") as hall:
        assert all(hall.publish("edge-daemon/hall/event", payload) for payload in sent)
    bridged.centre.start()
    with member(bridged.centre, "reader", session=600) as reader:
        reader.wait_until(lambda: list(dict.fromkeys(reader.payloads)) == sent)


def test_bridge_loss_is_published_and_bridge_reconnects(bridged: Bridged) -> None:
    with (
        member(bridged.centre, "reader") as reader,
        member(bridged.site, "hall") as hall,
    ):
        reader.subscribe("edge-daemon-sites/site-a")
        reader.subscribe("edge-daemon/+/event")
        reader.wait_for("1")
        bridged.site.stop()
        reader.wait_for("1", "0")
        bridged.site.start()
        reader.wait_for("1", "0", "1")
        hall.wait_until(hall._client.is_connected)
        assert hall.publish("edge-daemon/hall/event", "again")
        reader.wait_for("1", "0", "1", "again")
