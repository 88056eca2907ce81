"""The event queue's database is damaged at random while no daemon runs; the next start salvages it.

TEST_DAMAGES sets the number of damages (default 8).
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import event
from conftest import Program
from drawing import draw_scene, write_clip
from faults.device import MANY_EVENTS, events_in
from publishing.broker import Mosquitto, Subscriber, subscribed
from publishing.fixtures import DAMAGED
from publishing.fixtures import events_in as queue_in

from edge_daemon.schema import EventMessage, event_message

DAMAGES = int(os.environ.get("TEST_DAMAGES", "8"))

WAITING = 200
"""Queued events, half of them in the database, half in its write-ahead log."""

FILE = "events-porch.sqlite"


@pytest.fixture(scope="module")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a daemon that was killed with events in its queue."""
    folder = tmp_path_factory.mktemp("queued")
    with queue_in(folder / "live") as events:
        for number in range(1, WAITING + 1):
            events.add(number)
            if number == WAITING // 2:
                assert events.writer._store is not None
                events.writer._store.empty_log()
        return Path(shutil.copytree(folder / "live", folder / "killed"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face appears and leaves."""
    scenes = [draw_scene((100, 60, 120))] * 3 + [draw_scene()] * 3
    return write_clip(tmp_path_factory.mktemp("clip") / "visit.mp4", scenes)


def flip_bits(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 50)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def cut_off(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def overwrite(content: bytearray, chance: random.Random) -> None:
    begin, length = _piece(content, chance)
    content[begin : begin + length] = chance.randbytes(length)


def fill_with_zeros(content: bytearray, chance: random.Random) -> None:
    begin, length = _piece(content, chance)
    content[begin : begin + length] = bytes(length)


def _piece(content: bytearray, chance: random.Random) -> tuple[int, int]:
    begin = chance.randrange(len(content))
    return begin, min(len(content) - begin, chance.randint(1, 20_000))


WAYS: list[Callable[[bytearray, random.Random], None]] = [
    flip_bits,
    cut_off,
    overwrite,
    fill_with_zeros,
]


def damage(folder: Path, seed: int) -> Path:
    """Damage one of the files in one of the ways; return the file."""
    chance = random.Random(seed)
    file = folder / f"{FILE}{chance.choice(['', '-wal'])}"
    content = bytearray(file.read_bytes())
    WAYS[seed % len(WAYS)](content, chance)
    file.write_bytes(content)
    return file


def received_events(subscriber: Subscriber) -> list[EventMessage]:
    """The received events; each matches the schema."""
    return [EventMessage.model_validate(json.loads(one)) for one in subscriber.payloads("event")]


@pytest.mark.parametrize("seed", range(DAMAGES))
def test_damaged_queue_is_logged_once_and_the_rest_is_in_order(
    tmp_path: Path, program: Program, queued: Path, clip: Path, seed: int
) -> None:
    state = tmp_path / "state" / "edge-daemon"
    shutil.copytree(queued, state)
    damaged = damage(state, seed)
    settings = (*MANY_EVENTS, "mqtt.host=127.0.0.1", "device_id=porch")
    words = [word for setting in settings for word in ("--set", setting)]
    with (
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
    ):
        done = program("--source", clip, *words, "--set", f"mqtt.port={broker.port}")
        subscriber.flush()
        received = received_events(subscriber)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count(DAMAGED) == len(list(state.glob(f"{FILE}.damaged-*Z"))) <= 1
    sequences = [one.sequence for one in received]
    assert sequences == sorted(set(sequences))
    logged = events_in(done.stderr.splitlines())
    old, new = received[: -len(logged)], received[-len(logged) :]
    assert {str(one.event_id): one.sequence for one in new} == logged
    assert all(one == event_message(event(number=one.sequence), one.sequence, 1.0) for one in old)
    assert len(old) >= WAITING // 2  # as only one of the files is damaged
    cut_log = WAYS[seed % len(WAYS)] is cut_off and damaged.name.endswith("-wal")
    assert len(old) == WAITING or DAMAGED in done.stderr or cut_log  # SQLite reports no cut log
    print(f"{WAYS[seed % len(WAYS)].__name__} {damaged.name}: {len(old)} of {WAITING} came")
