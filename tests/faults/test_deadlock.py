"""A stage deadlocks: no watchdog notification, `offline` on a live connection, then the exit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing import draw_scene
from faults.injection import PLACES, Fault, Injection
from monitoring.notify_listener import Systemd
from publishing.broker import Mosquitto, subscribed
from running import broker_at, camera, running


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    pytest.importorskip("systemd.daemon")
    listener = Systemd(tmp_path)
    yield listener
    listener.close()


@pytest.mark.parametrize("stage", PLACES)
def test_stage_deadlock_is_reported_and_ends_the_program(
    tmp_path: Path, systemd: Systemd, stage: str
) -> None:
    # A busy machine takes more than a second for one frame now and then.
    injection = Injection(tmp_path, PLACES[stage], patience=8.0)
    watched = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "6000000"}
    with (
        camera(draw_scene((60, 60, 120))) as live,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        running(
            tmp_path,
            *("--source", live.url, "--detector", "haar", "--set", "device_id=porch"),
            *broker_at(broker.port),
            *("--set", "mqtt.stale_after=3", "--set", "health.interval=1"),
            **injection.environment,
            **watched,
        ) as program,
    ):
        systemd.wait_for("READY=1")
        systemd.wait_for("WATCHDOG=1")
        subscriber.wait_for("availability", b"online")
        injection.order(Fault.HANG)
        program.wait_for("stage hangs, withholding watchdog messages")
        systemd.received()
        subscriber.wait_for("availability", b"online", b"offline")
        count = len(subscriber.on("health"))
        # The connection stays alive.
        subscriber.wait_until(lambda: len(subscriber.on("health")) > count)
        code, _ = program.wait_for_end()
        subscriber.flush()
    assert (code, "WATCHDOG=1" in systemd.received()) == (1, False)
    (end,) = (line for line in program.err if line.startswith("edge-daemon: "))
    assert end.startswith(f"edge-daemon: stage {stage}: stuck on one frame for ")
    assert sum("stage hangs" in line for line in program.err) == 1
    assert set(subscriber.payloads("availability")[1:]) == {b"offline"}
