"""Devices without a camera: simulated faces, published by the daemon's own classes."""

import heapq
import itertools
import logging
import random
import time
from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from builders import face, probabilities
from payloads import encoded, health

from edge_daemon._lib.clock import SystemClock
from edge_daemon.config.settings import EventSettings
from edge_daemon.pipeline import in_thread
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.client import MqttClient
from edge_daemon.publishing.event_queue import EventQueue
from edge_daemon.publishing.event_writer import EventWriter, QueueLimits
from edge_daemon.publishing.messages import Message, Topics
from edge_daemon.publishing.publisher import MqttPublisher
from edge_daemon.publishing.state import AvailabilityMonitor
from edge_daemon.records import EMOTIONS, FaceEmotion, Frame, FrameResult
from edge_daemon.schema import StateMessage
from edge_daemon.tracking.events import EventMaker

BASE: Final = "edge-daemon"

HEALTH_INTERVAL_S: Final = 10.0

FLUSH_TIMEOUT_S: Final = 60.0
"""Limit on delivering the events that are queued at the end."""

QUEUE_LIMITS: Final = QueueLimits(max_events=100_000, max_age_s=86_400.0)
UNLIMITED_HZ: Final = 1000.0
"""Each result is published."""

LIMITS: Final = EventSettings(appear_after=0.5, margin=0.1, dwell=0.6)

IMAGE: Final = np.zeros((480, 640, 3), np.uint8)
FACE: Final = face()

clock = SystemClock()


class Scene:
    """What a camera captures: up to three faces, each for a random time.

    Args:
        seed: of the random numbers.
        interval_s: time between two results.
    """

    def __init__(self, seed: int, interval_s: float) -> None:
        self._random = random.Random(seed)
        self._scale = interval_s / 0.2
        self._numbers = itertools.count(1)
        self._frames = itertools.count()
        self._faces: dict[int, str] = {}
        self._events = EventMaker(LIMITS)

    def result(self) -> FrameResult:
        """The result of a frame that is captured now."""
        self._change()
        faces = tuple(_recognised(track, emotion) for track, emotion in self._faces.items())
        return self._events(FrameResult(self._frame(), faces, frozenset(self._faces)))

    def _change(self) -> None:
        if len(self._faces) < 3 and self._random.random() < 0.02 * self._scale:
            self._faces[next(self._numbers)] = self._random.choice(EMOTIONS)
        for track in list(self._faces):
            if self._random.random() < 0.02 * self._scale:
                self._faces[track] = self._random.choice(EMOTIONS)
            if self._random.random() < 0.01 * self._scale:
                del self._faces[track]

    def _frame(self) -> Frame:
        """Captured at a whole millisecond, the resolution of messages, so latencies are exact."""
        now = time.time_ns()
        part = now % 1_000_000
        at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=now // 1_000_000)
        monotonic = clock.monotonic() - part / 1e9
        return Frame(next(self._frames), 0, IMAGE, at, monotonic, monotonic)


def _recognised(track_id: int, emotion: str) -> FaceEmotion:
    answer = probabilities(**{emotion: 0.7})
    return FaceEmotion(track_id, FACE, answer, answer, uncertain=False, members=2)


@dataclass
class Account:
    """What some devices have published."""

    results: int = 0
    dropped: int = 0
    """Results without a connection."""
    events: set[str] = field(default_factory=set)
    """Their IDs."""
    queued: int = 0
    """Events that the broker has not acknowledged."""
    connections: int = 0
    away_s: list[float] = field(default_factory=list)
    """Durations without a connection."""


class Device:
    """The daemon's publisher and event queue, without its camera.

    Args:
        name: the device ID.
        broker: where it publishes.
        folder: for the event database.
        interval_s: time between two results.
    """

    def __init__(self, name: str, broker: Broker, folder: Path, interval_s: float) -> None:
        self.events: list[str] = []
        self.results = 0
        self._topics = Topics(BASE, name)
        self._scene = Scene(random.Random(name).randrange(2**32), interval_s)
        availability = AvailabilityMonitor(self._topics.availability, 30.0, lambda: False, clock)
        self._client = MqttClient(broker, f"simulated-{name}", clock, availability.offline)
        self._queue = EventQueue(clock, self._client.wake)
        writer = EventWriter(self._queue, folder / f"events-{name}.sqlite", QUEUE_LIMITS, clock)
        self._publisher = MqttPublisher(
            self._client,
            self._topics,
            UNLIMITED_HZ,
            queue=self._queue,
            availability=availability,
            clock=clock,
        )
        self._services = (self._publisher, writer)
        self._threads = [
            in_thread(service.name, lambda service=service: service.run(nullcontext()))  # type: ignore[misc]
            for service in self._services
        ]

    def publish_result(self) -> None:
        """Publish one result with its events, and the state if there are events."""
        result = self._scene.result()
        self._publisher(result)
        self.results += 1
        self.events += [str(event.event_id) for event in result.events]
        if result.events:
            self._publisher.publish_retained(_retained(self._topics.state, encoded(_state(result))))

    def publish_health(self) -> None:
        self._publisher.publish_retained(
            _retained(self._topics.health, encoded(health(at=clock.now())))
        )

    @property
    def depth(self) -> int:
        """Events that the broker has not acknowledged."""
        return self._queue.depth

    def stop(self) -> None:
        for service in self._services:
            service.stop()

    def join(self) -> None:
        wait(self._threads, FLUSH_TIMEOUT_S)

    def add_to(self, account: Account) -> None:
        account.results += self.results
        account.dropped += self._publisher.dropped
        account.events.update(self.events)
        account.queued += self.depth
        account.connections += self._client.connection_count


class _AwayTimes(logging.Handler):
    """Collects how long devices had no connection, from the publisher's log."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def emit(self, record: logging.LogRecord) -> None:
        if (away_s := getattr(record, "away_seconds", None)) is not None:
            self._account.away_s.append(away_s)


def simulate(
    names: Sequence[str], broker: Broker, folder: Path, seconds: float, rate_hz: float
) -> Account:
    """Run some devices for a limited time, and deliver what is queued then."""
    account = Account()
    logger = logging.getLogger("edge_daemon")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(_AwayTimes(account))
    devices = [Device(name, broker, folder, 1 / rate_hz) for name in names]
    _play(devices, seconds, 1 / rate_hz)
    deadline = time.monotonic() + FLUSH_TIMEOUT_S
    while any(device.depth for device in devices) and time.monotonic() < deadline:
        time.sleep(0.2)
    for device in devices:
        device.stop()
    for device in devices:
        device.join()
        device.add_to(account)
    return account


def _play(devices: Sequence[Device], seconds: float, interval_s: float) -> None:
    """Publish the devices' results, each at its own phase, and their health."""
    begin = time.monotonic()
    due = [(begin + interval_s * number / len(devices), number) for number in range(len(devices))]
    heapq.heapify(due)
    health_at = [begin + random.uniform(0, HEALTH_INTERVAL_S) for _ in devices]
    while due[0][0] < begin + seconds:
        at, number = due[0]
        time.sleep(max(0.0, at - time.monotonic()))
        devices[number].publish_result()
        if at >= health_at[number]:
            health_at[number] += HEALTH_INTERVAL_S
            devices[number].publish_health()
        heapq.heapreplace(due, (at + interval_s, number))


def _retained(topic: str, payload: bytes) -> Message:
    return Message(topic, payload, retain=True, qos=1)


def _state(result: FrameResult) -> StateMessage:
    at = result.frame.captured_at
    emotion = result.faces[0].emotion if result.faces else "none"
    return StateMessage(
        time=at,
        faces=len(result.faces),
        emotion=emotion,
        since=at,
        probabilities=None,
        paused=False,
    )
