"""The broker is killed at random, and the daemon too: no event is lost, none out of order.

Six kills by default; TEST_BROKER_KILLS asks for another number of them.
"""

import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from drawing import draw_scene
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import Camera, RunningProgram, camera, eventually

KILLS = int(os.environ.get("TEST_BROKER_KILLS", "6"))

DAEMONS = KILLS // 3
"""So many of the kills hit the daemon, the others the broker."""

EMPTY = draw_scene()
SCENES = [draw_scene((x, 60, 120)) for x in (20, 100, 180)]

EVENT = re.compile(r" event event_id=(\S+) kind=\S+ track_id=\d+ emotion=\S+ sequence=(\d+)$")

MANY_EVENTS = (
    "events.appear_after=0",
    "events.dwell=0",
    "events.margin=0",
    "tracking.memory=0",
    "smoothing.time_constant=0",
)


class Device:
    """The daemon, that can be killed and started again, and all that it ever logged."""

    def __init__(self, state: Path, source: str, port: int) -> None:
        settings = (*MANY_EVENTS, "mqtt.host=127.0.0.1", f"mqtt.port={port}", "device_id=porch")
        self._words = ["--source", source, "--detector", "haar"]
        self._words += [word for setting in settings for word in ("--set", setting)]
        self._state = state
        self._lives: list[RunningProgram] = []
        self.start()

    def start(self) -> None:
        self._lives.append(RunningProgram(self._state, *self._words))

    def wait_for_events(self, count: int) -> None:
        """Wait until it has told of so many more."""
        wanted = len(self.logged) + count
        eventually(lambda: len(self.logged) >= wanted)

    def end(self, number: signal.Signals) -> None:
        self._lives[-1].end(number)

    @property
    def logged(self) -> dict[str, int]:
        """Sequence numbers by the events' ids."""
        lines = [line for life in self._lives for line in list(life.err)]
        found = [match for match in map(EVENT.search, lines) if match]
        return {match[1]: int(match[2]) for match in found}

    @property
    def running(self) -> bool:
        return self._lives[-1].process.poll() is None


@contextmanager
def device(state: Path, source: str, port: int) -> Iterator[Device]:
    started = Device(state, source, port)
    try:
        yield started
    finally:
        if started.running:
            started.end(signal.SIGKILL)


@contextmanager
def faces_that_come_and_go(stage: Camera) -> Iterator[None]:
    """A face, nobody, a face elsewhere, nobody …; in the end, nobody."""
    leaving = threading.Event()

    def play() -> None:
        while not leaving.wait(0.2):
            stage.show(random.choice([*SCENES, EMPTY]))
        stage.show(EMPTY)

    player = threading.Thread(target=play)
    player.start()
    try:
        yield
    finally:
        leaving.set()
        player.join()


def kill_at_random(camera_device: Device, broker: Mosquitto) -> None:
    victims = ["daemon"] * DAEMONS + ["broker"] * (KILLS - DAEMONS)
    random.shuffle(victims)
    for victim in victims:
        time.sleep(random.uniform(0.0, 2.5))
        if victim == "daemon":
            camera_device.end(signal.SIGKILL)
            camera_device.start()
        else:
            broker.kill()
            time.sleep(random.choice([0.0, random.uniform(0.0, 2.0)]))
            broker.start()


def received(subscriber: Subscriber) -> dict[str, int]:
    """Sequence numbers by the events' ids, in the order in which they first came."""
    events: dict[str, int] = {}
    for payload in subscriber.payloads("event"):
        event = json.loads(payload)
        assert events.setdefault(event["event_id"], event["sequence"]) == event["sequence"]
    return events


@pytest.mark.timeout(120 + 20 * KILLS)
def test_every_event_arrives_once_and_in_order_whoever_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    random.seed(seed)
    lines = ("max_inflight_messages 0",)  # what it queued for the subscriber would be lost with it
    with (
        camera(EMPTY) as stage,
        Mosquitto(tmp_path, lines=lines) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        device(tmp_path, stage.url, broker.port) as watching,
    ):
        with faces_that_come_and_go(stage):
            watching.wait_for_events(3)
            kill_at_random(watching, broker)
            watching.wait_for_events(3)
        eventually(lambda: watching.logged.keys() <= received(subscriber).keys())
        watching.end(signal.SIGTERM)
        logged, arrived = watching.logged, received(subscriber)
    assert len(logged) > 3 * KILLS
    assert logged.items() <= arrived.items()
    assert list(arrived.values()) == list(range(1, len(arrived) + 1))
