"""Broker and daemon are killed at random: no event is lost, none out of order.

Six kills by default; TEST_BROKER_KILLS asks for another number of them.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from faults.device import EMPTY, Device, device, faces_that_come_and_go, received
from publishing.broker import Mosquitto, subscribed
from running import camera

KILLS = int(os.environ.get("TEST_BROKER_KILLS", "6"))

DAEMONS = KILLS // 3
"""Number of kills that hit the daemon; the others hit the broker."""


def kill_at_random(camera_device: Device, broker: Mosquitto) -> None:
    victims = ["daemon"] * DAEMONS + ["broker"] * (KILLS - DAEMONS)
    random.shuffle(victims)
    for victim in victims:
        camera_device.wait_for_events(1)  # on a busy machine, a start takes seconds
        time.sleep(random.uniform(0.0, 0.5))
        if victim == "daemon":
            camera_device.end(signal.SIGKILL)
            camera_device.start()
        else:
            broker.kill()
            time.sleep(random.choice([0.0, random.uniform(0.0, 2.0)]))
            broker.start()


@pytest.mark.timeout(120 + 20 * KILLS)
def test_no_event_is_lost_when_broker_or_daemon_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    random.seed(seed)
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        # The kill would interrupt a handshake, and the broker would lose its pending deliveries.
        subscribed(broker.port, "edge-daemon/porch", qos=0) as subscriber,
        device(tmp_path, stage.url, broker.port) as watching,
    ):
        with faces_that_come_and_go(stage):
            watching.wait_for_events(3)
            kill_at_random(watching, broker)
            watching.wait_for_events(3)
        logged, arrived = watching.end_delivered(subscriber), received(subscriber)
    assert len(logged) > KILLS
    assert logged.items() <= arrived.items()
    assert list(arrived.values()) == list(range(1, len(arrived) + 1))
