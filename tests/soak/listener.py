"""The subscriber that must receive every event, and the times at which results resume."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Final

from edge_daemon._lib.clock import SystemClock
from edge_daemon.commands.watch.consumer import Consumer
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.messages import Message, Topics
from edge_daemon.publishing.subscription import Subscription
from edge_daemon.schema import EventMessage

BASE: Final = "edge-daemon"
DEVICE_ID: Final = "porch"
TOPICS: Final = Topics(BASE, DEVICE_ID)


class Listener:
    """Keeps the events in the order in which each first came.

    The subscription is that of `edge-daemon watch`; the broker keeps its session while it is away.
    """

    def __init__(self, port: int) -> None:
        self.events: dict[str, int] = {}
        """Sequence numbers by event ID."""
        self.repeated = 0
        """Duplicate events."""
        self.messages: list[str] = []
        """Messages about gaps, refused messages, lost connections."""
        self.newest = datetime.min.replace(tzinfo=UTC)
        """Capture time of the newest frame with a result."""
        self._consumer = Consumer(BASE, self.messages.append)
        topics = [TOPICS.faces, TOPICS.event, TOPICS.state, TOPICS.health]
        self._subscription = Subscription(
            Broker("127.0.0.1", port, keepalive=30),
            topics,
            self.messages.append,
            SystemClock(),
            role="soak",
            session_expiry_s=60,
        )
        self._leaving = threading.Event()
        self._subscription.open()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    @property
    def connected(self) -> bool:
        return self._subscription.problem is None

    @property
    def refused(self) -> int:
        """Messages that violate the schema."""
        return sum(device.refused for device in self._consumer.devices.values())

    @property
    def dropped(self) -> int:
        """Events that the daemon reports as dropped."""
        healths = [device.health for device in self._consumer.devices.values()]
        return sum(health.event_queue.dropped for health in healths if health is not None)

    def leave(self) -> None:
        self._leaving.set()
        self._thread.join()

    def _listen(self) -> None:
        clock = SystemClock()
        with closing(self._subscription):
            while not self._leaving.is_set():
                for message in self._subscription.receive(0.2):
                    self._take(message, clock.monotonic())

    def _take(self, message: Message, now: float) -> None:
        accepted = self._consumer.take(message, now)
        if message.topic == TOPICS.event:
            self._note_event(message)
        elif accepted is not None and message.topic == TOPICS.faces:
            (device,) = self._consumer.devices.values()
            assert device.faces is not None
            self.newest = max(self.newest, device.faces.time)

    def _note_event(self, message: Message) -> None:
        event = EventMessage.model_validate_json(message.payload, extra="ignore")
        if str(event.event_id) in self.events:
            self.repeated += 1
        else:
            self.events[str(event.event_id)] = event.sequence


@contextmanager
def listening(port: int) -> Iterator[Listener]:
    listener = Listener(port)
    try:
        yield listener
    finally:
        listener.leave()
