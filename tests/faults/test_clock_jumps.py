"""The wall clock jumps by hours while the program runs, as a Pi's does at its first NTP sync."""

import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from drawing import draw_scene
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import broker_at, camera, eventually, running

EMPTY = draw_scene()
SCENES = [draw_scene((x, 60, 120)) for x in (20, 180)]

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

JUMPS = [timedelta(hours=-5), timedelta(hours=7), timedelta(days=-40)]

SLACK = timedelta(minutes=5)
"""Tolerance for a time after a jump."""


class WallClock:
    """The wall clock of a program; its monotonic clock is the system's."""

    def __init__(self, folder: Path) -> None:
        if not LIBRARIES:
            pytest.skip("needs libfaketime")
        self._file = folder / "time"
        self.set(timedelta())
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: timedelta) -> None:
        """Set the offset from the true time."""
        self.offset = offset
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{offset.total_seconds():+.0f}\n")
        draft.rename(self._file)

    def shows(self, time: str) -> bool:
        """Whether a time is close to the wall clock's current time."""
        return abs(datetime.fromisoformat(time) - (datetime.now(UTC) + self.offset)) < SLACK


def messages(subscriber: Subscriber, topic: str) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in subscriber.payloads(topic)]


def events(subscriber: Subscriber, kind: str) -> list[dict[str, Any]]:
    return [event for event in messages(subscriber, "event") if event["kind"] == kind]


def wait_for_presence(subscriber: Subscriber, *, here: bool) -> None:
    """Wait until a face is present, or absent; a busy machine may lose a face."""
    subscriber.wait_until(
        lambda: (len(events(subscriber, "appeared")) > len(events(subscriber, "left"))) == here
    )


def wait_for_time(subscriber: Subscriber, topic: str, wall: WallClock) -> None:
    """Wait until the last message of a topic has the wall clock's current time."""
    subscriber.wait_until(lambda: wall.shows(messages(subscriber, topic)[-1]["time"]))


def test_clock_jumps_keep_durations_order_and_presence(tmp_path: Path) -> None:
    wall = WallClock(tmp_path)
    with (
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        camera(EMPTY) as live,
        running(
            tmp_path,
            *("--source", live.url, "--detector", "haar", "--set", "device_id=porch"),
            *broker_at(broker.port),
            *("--set", "events.appear_after=0.2", "--set", "tracking.max_age=1"),
            *("--set", "health.interval=1", "--set", "mqtt.heartbeat=1"),
            **wall.environment,
        ) as program,
    ):
        for number, jump in enumerate(JUMPS):
            live.show(SCENES[number % 2])
            wait_for_presence(subscriber, here=True)
            wait_for_time(subscriber, "event", wall)
            wall.set(wall.offset + jump)
            for topic in ("faces", "health", "state"):
                wait_for_time(subscriber, topic, wall)
            live.show(EMPTY)
            wait_for_presence(subscriber, here=False)
        code, _ = program.end(signal.SIGTERM)
        subscriber.wait_for("availability", b"online", b"offline")
    published = messages(subscriber, "event")
    assert code == 0
    assert len(events(subscriber, "appeared")) == len(events(subscriber, "left")) >= len(JUMPS)
    assert [event["sequence"] for event in published] == list(range(1, len(published) + 1))
    assert all(0.0 < event["duration"] < 60.0 for event in published)
    results, healths = messages(subscriber, "faces"), messages(subscriber, "health")
    assert all(0.0 <= message["latency_ms"] < 10_000 for message in [*results, *published])
    uptimes = [health["uptime_s"] for health in healths]
    assert uptimes == sorted(uptimes)
    assert uptimes[-1] < 120
    assert {health["event_queue"]["dropped"] for health in healths} == {0}
    assert max(health["reconnects"] for health in healths) == 0


def test_clock_jumps_queued_events_arrive_in_order_unexpired(tmp_path: Path) -> None:
    wall = WallClock(tmp_path)
    broker = Mosquitto(tmp_path)
    with (
        camera(EMPTY) as live,
        running(
            tmp_path,
            *("--source", live.url, "--detector", "haar", "--set", "device_id=porch"),
            *broker_at(broker.port),
            *("--set", "events.appear_after=0", "--set", "tracking.max_age=0.5"),
            *("--set", "mqtt.queue_max_age=600"),
            **wall.environment,
        ) as program,
    ):
        for number, jump in enumerate(JUMPS):
            live.show(SCENES[number % 2])
            program.wait_for(" kind=appeared", count=number + 1)
            wall.set(wall.offset + jump)
            live.show(EMPTY)
            program.wait_for(" kind=left", count=number + 1)
        with broker, subscribed(broker.port, "edge-daemon/porch") as subscriber:

            def logged() -> int:
                return sum(" event event_id=" in line for line in list(program.err))

            eventually(lambda: len(subscriber.on("event")) == logged() >= 2 * len(JUMPS))
            code, _ = program.end(signal.SIGTERM)
            subscriber.flush()
    sequence = [event["sequence"] for event in messages(subscriber, "event")]
    assert (code, sequence) == (0, list(range(1, logged() + 1)))
    assert not [line for line in program.err if "dropping" in line]
