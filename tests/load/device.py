"""A device without a camera: faces come, change their emotion and leave, and it tells of them."""

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import aiomqtt
import numpy as np
from builders import face, probabilities
from payloads import encoded, health

from edge_daemon import schema as messages
from edge_daemon._lib.clock import SystemClock
from edge_daemon.config.settings import EventSettings
from edge_daemon.publishing.topics import Message, Topics
from edge_daemon.records import EMOTIONS, Event, FaceEmotion, Frame, FrameResult
from edge_daemon.schema import EventMessage, StateMessage, faces_payload
from edge_daemon.tracking.events import EventMaker

RATE: Final = 5.0
"""Results a second, as the daemon's own default."""

HEALTH_INTERVAL: Final = 10.0

RETRY_PAUSE: Final = 1.0
"""Seconds between two attempts to connect, at most."""

PATIENCE: Final = 5.0
"""Seconds for an acknowledgement; of a broken connection, aiomqtt does not always hear."""

LIMITS: Final = EventSettings(appear_after=0.5, margin=0.1, dwell=0.6)

PICTURE: Final = np.zeros((480, 640, 3), np.uint8)
FACE: Final = face()

SILENT: Final = logging.getLogger("load.silent")
SILENT.disabled = True

clock = SystemClock()


class Scene:
    """What a camera sees, by chance: up to three faces, each for a while."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._numbers = itertools.count(1)
        self._frames = itertools.count()
        self._faces: dict[int, str] = {}
        self._events = EventMaker(LIMITS)

    def look(self) -> FrameResult:
        """The result of a frame that is captured now."""
        self._change()
        faces = tuple(self._read(track, emotion) for track, emotion in self._faces.items())
        return self._events(FrameResult(self._frame(), faces, frozenset(self._faces)))

    def _change(self) -> None:
        if len(self._faces) < 3 and self._chance.random() < 0.02:
            self._faces[next(self._numbers)] = self._chance.choice(EMOTIONS)
        for track in list(self._faces):
            if self._chance.random() < 0.02:
                self._faces[track] = self._chance.choice(EMOTIONS)
            if self._chance.random() < 0.01:
                del self._faces[track]

    def _read(self, track_id: int, emotion: str) -> FaceEmotion:
        answer = probabilities(**{emotion: self._chance.uniform(0.5, 0.9)})
        return FaceEmotion(track_id, FACE, answer, answer, uncertain=False, members=2)

    def _frame(self) -> Frame:
        """Captured at a whole millisecond, as a message tells no finer; so latencies are right."""
        now = time.time_ns()
        part = now % 1_000_000
        at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=now // 1_000_000)
        monotonic = clock.monotonic() - part / 1e9
        return Frame(next(self._frames), 0, PICTURE, at, monotonic, monotonic)


@dataclass
class Account:
    """What a device has handed to the network."""

    faces: int = 0
    dropped: int = 0
    """Results while the broker was away."""
    events: list[str] = field(default_factory=list)
    """The ids of those that the broker has acknowledged."""
    unsent: int = 0
    """Events that still wait."""
    connections: int = 0


class Publisher:
    """Does with results what the daemon's publisher does, through another MQTT library.

    Events wait until they are acknowledged, `keep` remembers a state, and results that find no
    connection are dropped.
    """

    def __init__(self, topics: Topics, port: int) -> None:
        self.account = Account()
        self._topics = topics
        self._port = port
        self._client: aiomqtt.Client | None = None
        self._kept: dict[str, Message] = {}
        self._spool: deque[EventMessage] = deque()
        self._sending: set[asyncio.Task[None]] = set()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._sequence = itertools.count(1)

    def publish(self, result: FrameResult) -> None:
        """Hand over a result, and what has happened in it; like the daemon's, it never waits."""
        for event in result.events:
            self._spool.append(_told(event, next(self._sequence), result.frame))
            self._filled.set()
            self._emptied.clear()
        sending = asyncio.create_task(self._send_result(faces_payload(result, clock)))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def _send_result(self, payload: bytes) -> None:
        try:
            await self._send(Message(self._topics.faces, payload))
            self.account.faces += 1
        except aiomqtt.MqttError:
            self.account.dropped += 1

    async def keep(self, message: Message) -> None:
        """Publish a state, now or at the next connect."""
        self._kept[message.topic] = message
        if self._client is not None:
            try:
                await self._send(message)
            except aiomqtt.MqttError:
                return  # it goes with the next connect

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await self._serve()
            except* aiomqtt.MqttError:
                self._client = None  # the next try comes after a pause
            await asyncio.sleep(random.uniform(0, RETRY_PAUSE))

    async def drain(self, seconds: float) -> None:
        """Wait until no event waits any more."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.wait(), seconds)
        self.account.unsent = len(self._spool)

    async def _serve(self) -> None:
        will = aiomqtt.Will(self._topics.availability, b"offline", qos=1, retain=True)
        client = aiomqtt.Client(
            "127.0.0.1",
            self._port,
            identifier=f"simulated-{self._topics.device_id}",
            will=will,
            logger=SILENT,
        )
        async with client:
            self.account.connections += 1
            self._client = client
            await self._send(Message(self._topics.availability, b"online", retain=True, qos=1))
            for message in list(self._kept.values()):
                await self._send(message)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._send_events())
                both.create_task(_notice_the_end(client))

    async def _send_events(self) -> None:
        """One after another, each until it is acknowledged."""
        while True:
            await self._filled.wait()
            while self._spool:
                event = self._spool[0]
                await self._send(Message(self._topics.event, encoded(event), qos=1))
                self.account.events.append(str(event.event_id))
                self._spool.popleft()
            self._filled.clear()
            self._emptied.set()

    async def _send(self, message: Message) -> None:
        if self._client is None:
            raise aiomqtt.MqttError("no connection")
        await self._client.publish(
            message.topic, message.payload, message.qos, message.retain, timeout=PATIENCE
        )


async def _notice_the_end(client: aiomqtt.Client) -> None:
    """Nothing is subscribed to, but to wait for messages is how one hears of the end."""
    async for _ in client.messages:
        pass


async def simulate(name: str, base: str, port: int, seconds: float) -> Account:
    """One device for a while."""
    topics = Topics(base, name)
    publisher = Publisher(topics, port)
    chance = random.Random(name)
    scene = Scene(chance.randrange(2**32))
    serving = asyncio.create_task(publisher.run())
    await asyncio.sleep(chance.uniform(0, 1 / RATE))  # devices are not in step
    begin = time.monotonic()
    next_health = begin + chance.uniform(0, HEALTH_INTERVAL)
    for tick in itertools.count():
        await asyncio.sleep(begin + tick / RATE - time.monotonic())
        now = time.monotonic()
        if now > begin + seconds:
            break
        result = scene.look()
        publisher.publish(result)
        if result.events:
            await publisher.keep(_retained(topics.state, encoded(_state(result))))
        if now > next_health:
            next_health += HEALTH_INTERVAL
            await publisher.keep(_retained(topics.health, encoded(health(at=clock.now()))))
    await publisher.drain(30.0)
    serving.cancel()
    await asyncio.wait([serving])
    return publisher.account


def _retained(topic: str, payload: bytes) -> Message:
    return Message(topic, payload, retain=True, qos=1)


def _told(event: Event, sequence: int, frame: Frame) -> EventMessage:
    latency_ms = round(1000 * (clock.monotonic() - frame.captured_monotonic), 1)
    told = dict(messages._event(event))
    return EventMessage(**told, sequence=sequence, latency_ms=latency_ms)


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
