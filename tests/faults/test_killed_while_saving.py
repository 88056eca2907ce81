"""The daemon is killed repeatedly while it queues events for an unreachable broker.

TEST_SAVING_KILLS sets the number of kills (default 3).
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from faults.device import EMPTY, device, faces_that_come_and_go, received
from publishing.broker import Mosquitto, subscribed
from running import camera, eventually

KILLS = int(os.environ.get("TEST_SAVING_KILLS", "3"))

EACH_FRAME = 1 / 100
"""Seconds between two changes of the scene, so that nearly each frame makes events."""


@pytest.mark.timeout(120 + 10 * KILLS)
def test_events_queued_before_each_kill_arrive_in_order(tmp_path: Path) -> None:
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
    ):
        broker.stop()
        with (
            device(tmp_path, stage.url, broker.port, settings=("capture.fps=100",)) as watching,
            faces_that_come_and_go(stage, EACH_FRAME),
        ):
            for _ in range(KILLS):
                watching.wait_for_events(1)
                time.sleep(random.uniform(0.0, 1.0))
                watching.end(signal.SIGKILL)
                watching.start()
            watching.wait_for_events(1)
            broker.start()
            eventually(lambda: watching.logged.keys() <= received(subscriber).keys())
            logged, arrived = watching.end_delivered(subscriber), received(subscriber)
        print(f"{len(logged)} events logged, {len(arrived)} arrived")
    assert logged.items() <= arrived.items()
    assert list(arrived.values()) == list(range(1, len(arrived) + 1))
    assert not watching.lines_with("damaged")
