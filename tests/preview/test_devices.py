"""The devices of a broker: the table of their messages, and the subscription."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from commands.watch.test_command import publish
from conftest import FakeClock
from payloads import BASE, encoded, event, health, message, state
from preview.serving import Served, serving
from publishing.broker import Mosquitto
from running import eventually, free_port

from edge_daemon.preview import devices
from edge_daemon.preview.devices import DeviceMonitor, DeviceRow, DeviceTable
from edge_daemon.publishing.messages import Message
from edge_daemon.publishing.subscription import MAX_DEVICES
from edge_daemon.schema import SourceState

STALE_AFTER_S = 90.0


@pytest.fixture
def table(clock: FakeClock) -> DeviceTable:
    return DeviceTable(BASE, "porch", STALE_AFTER_S, clock)


def put(table: DeviceTable, *messages: Message) -> None:
    for one in messages:
        table.take(one)


def online(device: str) -> Message:
    return message(device, "availability", b"online")


def only_row(table: DeviceTable) -> DeviceRow:
    (row,) = table.rows()
    return row


def test_table_running_device_has_all_figures(table: DeviceTable, clock: FakeClock) -> None:
    put(table, online("hall"), message("hall", "state", state(at=clock.now())))
    put(table, message("hall", "health", health(waiting=4, throttled=("under_voltage",))))
    assert only_row(table) == DeviceRow(
        name="hall",
        is_self=False,
        status="running",
        age_s=0.0,
        faces=1,
        emotion="happy",
        since=clock.now(),
        fps=14.8,
        latency_ms=71.0,
        temperature_c=61.2,
        is_throttled=True,
        queued_events=4,
        uptime_s=93_784.0,
        version="0.1.0",
    )


@pytest.mark.parametrize("status", ["lost", "paused", "starting"])
def test_table_device_without_picture_has_no_emotion(table: DeviceTable, status: str) -> None:
    put(table, message("hall", "state", state(paused=status == "paused")))
    put(table, online("hall"), message("hall", "health", health(SourceState(status))))
    row = only_row(table)
    assert (row.status, row.emotion, row.faces, row.fps) == (status, None, None, None)
    assert row.temperature_c == 61.2


def test_table_offline_device_has_no_figures(table: DeviceTable) -> None:
    put(table, message("hall", "state", state()), message("hall", "health", health()))
    put(table, message("hall", "availability", b"offline"))
    assert only_row(table) == DeviceRow(name="hall", is_self=False, status="offline", age_s=0.0)


def test_table_device_without_news_becomes_stale(table: DeviceTable, clock: FakeClock) -> None:
    put(table, online("hall"), message("hall", "state", state()))
    put(table, message("hall", "health", health()))
    clock.seconds += STALE_AFTER_S
    assert only_row(table).status == "running"
    clock.seconds += 1
    row = only_row(table)
    assert (row.status, row.age_s, row.emotion) == ("stale", 91.0, None)
    put(table, message("hall", "state", state()))
    assert only_row(table).status == "running"


@pytest.mark.parametrize(
    ("age_s", "status"), [(3600.0, "stale"), (30.0, "running"), (-3600.0, "running")]
)
def test_table_retained_message_has_the_age_of_its_time(
    table: DeviceTable, clock: FakeClock, age_s: float, status: str
) -> None:
    made = clock.now() - timedelta(seconds=age_s)
    put(table, online("hall"), message("hall", "health", health(at=made), retain=True))
    row = only_row(table)
    assert (row.status, row.age_s) == (status, max(0.0, age_s))


def test_table_device_without_health_is_unknown(table: DeviceTable) -> None:
    put(table, online("hall"))
    row = only_row(table)
    assert (row.status, row.age_s) == ("unknown", None)


def test_table_deleted_message_removes_the_device(table: DeviceTable) -> None:
    put(table, online("hall"), online("gate"), message("hall", "availability", b"", retain=True))
    assert only_row(table).name == "gate"


@pytest.mark.parametrize(
    "one",
    [
        Message(f"{BASE}/{'x' * 101}/availability", b"online"),
        Message(f"{BASE}/ha ll/availability", b"online"),
        Message(f"{BASE}/hall/set/paused", b"ON"),
        message("hall", "availability", b"maybe"),
        message("hall", "health", b"{"),
        message("hall", "health", health(version="x" * 5000)),
        message("hall", "event", event(1)),
    ],
    ids=["long name", "name", "topic", "word", "JSON", "size", "event"],
)
def test_table_ignores_what_is_invalid(table: DeviceTable, one: Message) -> None:
    put(table, one)
    assert table.rows() == ()


def test_table_shortens_texts(table: DeviceTable) -> None:
    put(table, online("hall"), message("hall", "health", health(version="\x1b" + "x" * 500)))
    version = only_row(table).version
    assert version is not None
    assert len(version) < 50
    assert version.isprintable()


def test_table_has_a_row_for_its_own_device(table: DeviceTable) -> None:
    put(table, *(online(f"fake-{number:04}") for number in range(5000)))
    assert len(table.rows()) == MAX_DEVICES - 1
    assert table.is_full
    put(table, online("porch"))
    assert len(table.rows()) == MAX_DEVICES
    assert table.rows()[-1].is_self


# With a broker


@pytest.fixture
def served(broker: Mosquitto) -> Iterator[Served]:
    with serving(Served(broker_port=broker.port)) as served:
        yield served


def listed(served: Served) -> dict[str, Any]:
    return dict(json.loads(served.request("/devices").body))


def statuses(served: Served) -> list[str]:
    return [row["status"] for row in listed(served)["devices"]]


def names(served: Served) -> list[str]:
    return [row["name"] for row in listed(served)["devices"]]


def test_devices_without_broker_reports_none() -> None:
    with serving(Served()) as served:
        assert listed(served) == {
            "broker": "none",
            "address": "",
            "reason": "",
            "is_full": False,
            "devices": [],
        }


def test_devices_lists_retained_and_live_messages(served: Served, broker: Mosquitto) -> None:
    publish(broker.port, "edge-daemon/hall/availability", b"online", retain=True)
    eventually(lambda: names(served) == ["hall"])
    eventually(lambda: listed(served)["broker"] == "connected")
    assert listed(served)["address"] == f"127.0.0.1:{broker.port}"
    publish(broker.port, "edge-daemon/hall/health", encoded(health()))
    publish(broker.port, "edge-daemon/gate/availability", b"offline")
    eventually(lambda: names(served) == ["gate", "hall"])
    eventually(lambda: statuses(served) == ["offline", "running"])


def test_devices_without_requests_has_no_subscription(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "IDLE_S", 3.0)
    file = tmp_path / "log"

    def connections() -> tuple[int, int]:
        """How often the preview has connected and disconnected."""
        log = file.read_text()
        return log.count(" as edge-daemon-preview-"), log.count("Client edge-daemon-preview-")

    with (
        Mosquitto(tmp_path, lines=(f"log_dest file {file}",)) as broker,
        serving(Served(broker_port=broker.port)) as served,
    ):
        publish(broker.port, "edge-daemon/hall/availability", b"online", retain=True)
        assert connections() == (0, 0)
        eventually(lambda: names(served) == ["hall"])
        assert connections() == (1, 0)
        eventually(lambda: connections() == (1, 1))
        _, monitor = served.server.services
        assert isinstance(monitor, DeviceMonitor)
        # Without a request, which would subscribe again.
        assert monitor._table.rows() == ()


def test_devices_lost_broker_has_a_reason(served: Served, broker: Mosquitto) -> None:
    publish(broker.port, "edge-daemon/hall/availability", b"online", retain=True)
    eventually(lambda: names(served) == ["hall"])
    broker.stop()
    eventually(lambda: listed(served)["broker"] == "disconnected")
    assert listed(served)["reason"]
    assert names(served) == ["hall"]
    broker.start()
    eventually(lambda: listed(served)["broker"] == "connected")


def test_devices_flood_ends_the_subscription(
    served: Served, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MAX_MESSAGES", 50)
    monkeypatch.setattr(devices, "FLOOD_PAUSE_S", 4.0)
    eventually(lambda: listed(served)["broker"] == "connected")
    publish(broker.port, "edge-daemon/hall/availability", *[b"online"] * 55)
    eventually(lambda: listed(served)["broker"] == "flood")
    eventually(lambda: listed(served)["broker"] == "connected")
    assert names(served) == ["hall"]


def test_devices_hidden_by_access_rights(tmp_path: Path) -> None:
    """Mosquitto accepts the subscription and delivers what the user may read."""
    rights = ("topic readwrite edge-daemon/porch/#", "topic write edge-daemon/#")
    with (
        Mosquitto(tmp_path, rights=rights) as broker,
        serving(Served(broker_port=broker.port)) as served,
    ):
        for name in ("hall", "porch"):
            publish(broker.port, f"edge-daemon/{name}/availability", b"online", retain=True)
        eventually(lambda: names(served) == ["porch"])


def test_devices_unreachable_broker_stops_in_time() -> None:
    with serving(Served(broker_port=free_port())) as served:
        eventually(lambda: listed(served)["broker"] == "disconnected")
