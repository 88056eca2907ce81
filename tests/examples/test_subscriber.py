"""The example subscriber, with a real broker."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands.watch.test_command import publish
from payloads import encoded, event
from publishing.broker import Mosquitto
from running import PATIENCE

PROGRAM = Path(__file__).parents[2] / "examples" / "subscriber.py"

TOPIC = "edge-daemon/hall/event"


class Subscriber:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def lines_until(self, last: str) -> list[str]:
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line.rstrip())
            if lines[-1] == last:
                return lines
        pytest.fail(f"ended after {lines}")


@contextmanager
def subscriber(port: int) -> Iterator[Subscriber]:
    process = subprocess.Popen(
        [sys.executable, PROGRAM, "127.0.0.1", str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield Subscriber(process)
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def retain_first_event(port: int) -> None:
    """A retained event arrives as soon as the subscription is complete."""
    publish(port, "edge-daemon/first/event", encoded(event(1)), retain=True)


def test_subscriber_handles_each_event_once(broker: Mosquitto) -> None:
    retain_first_event(broker.port)
    with subscriber(broker.port) as program:
        program.lines_until("first: 1 appeared happy")
        two, three, six = (encoded(event(number)) for number in (2, 3, 6))
        unknown = json.dumps(json.loads(encoded(event(4))) | {"schema": 2}).encode()
        incomplete = b'{"schema": 1, "event_id": "a"}'
        publish(broker.port, TOPIC, two, three, two, b"{", b"[]", unknown, incomplete, six)
        assert program.lines_until("hall: 6 appeared happy") == [
            "hall: 2 appeared happy",
            "hall: 3 appeared happy",
            *["hall: not an event of schema 1"] * 4,
            "hall: 2 events missing",
            "hall: 6 appeared happy",
        ]


def test_subscriber_receives_events_of_its_absence(broker: Mosquitto) -> None:
    retain_first_event(broker.port)
    with subscriber(broker.port) as program:
        program.lines_until("first: 1 appeared happy")
    publish(broker.port, TOPIC, encoded(event(7)))
    with subscriber(broker.port) as program:
        assert "hall: 7 appeared happy" in program.lines_until("hall: 7 appeared happy")
