"""What tests of publishing share."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders import event
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import PATIENCE, eventually

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.pipeline import BusyTimer
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.client import MqttClient
from edge_daemon.publishing.commands import Inbox
from edge_daemon.publishing.event_queue import EventQueue
from edge_daemon.publishing.event_store import EventStore, OpenStore, QueuedEvent
from edge_daemon.publishing.event_writer import EventWriter, QueueLimits
from edge_daemon.publishing.messages import Subscribed, Topics
from edge_daemon.publishing.publisher import MqttPublisher
from edge_daemon.publishing.state import AvailabilityMonitor
from edge_daemon.schema import EventMessage

MakePublisher = Callable[..., MqttPublisher]

NO_LIMITS = QueueLimits(max_events=10**9, max_age_s=1e9)

CONNECTED, LOST = "connected to the broker", "no connection to the broker, retrying"
NOT_DURABLE, DURABLE = "events not durable, keeping them in memory", "events durable again"
DAMAGED = "event database damaged, starting a new one"
MOVED = "event database removed or replaced, writing it again"
DROPPING, EMPTY = "event queue limit exceeded, dropping oldest", "event queue empty"


class Logs(logging.Handler):
    """Keeps log records, and lets a test wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._arrived = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._arrived:
            self.records.append(record)
            self._arrived.notify_all()

    def of(self, event: str) -> list[dict[str, object]]:
        """The fields of the records of an event."""
        return [vars(record) for record in self.records if event in record.getMessage()]

    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno > logging.INFO]

    def wait_for(self, event: str, count: int = 1) -> dict[str, object]:
        """Wait until there are `count` such records; the fields of the last of them."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: len(self.of(event)) >= count, PATIENCE)
            assert found, [record.getMessage() for record in self.records]
            return self.of(event)[count - 1]


@pytest.fixture
def logs() -> Iterator[Logs]:
    logger = logging.getLogger("edge_daemon.publishing")
    handler = Logs()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


class Attempts:
    """Short delays between attempts, which a test can block and count."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_allowed = True
        self._is_waiting = False
        self._count = 0

    def delays(self) -> Iterator[float]:
        while True:
            with self._changed:
                self._count += 1
                self._is_waiting = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._is_allowed, PATIENCE)
                self._is_waiting = False
            yield 0.02

    def block(self) -> None:
        """Allow no further attempt, and wait for the end of one that is going on."""
        with self._changed:
            self._is_allowed = False
            assert self._changed.wait_for(lambda: self._is_waiting, PATIENCE)

    def allow(self) -> None:
        with self._changed:
            self._is_allowed = True
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            total = self._count + count
            assert self._changed.wait_for(lambda: self._count >= total, PATIENCE)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    counted = Attempts()
    monkeypatch.setattr("edge_daemon.publishing.client.backoff_delays", counted.delays)
    return counted


@pytest.fixture
def wait_for_subscriptions(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Waits until a publisher's first subscriptions are acknowledged: availability, and others."""
    acknowledged = threading.Semaphore(0)
    on_subscribed = Inbox.on_subscribed

    def count(inbox: Inbox, response: Subscribed) -> None:
        on_subscribed(inbox, response)
        acknowledged.release()

    def wait() -> None:
        for _ in range(2):
            assert acknowledged.acquire(timeout=PATIENCE)

    monkeypatch.setattr(Inbox, "on_subscribed", count)
    return wait


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running_broker:
        yield running_broker


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A base topic that no other test has."""
    name = request.node.name.translate(str.maketrans("[]/+#", "-----"))
    return f"test/{name}"


@pytest.fixture
def subscriber(broker: Mosquitto, topic: str) -> Iterator[Subscriber]:
    with subscribed(broker.port, topic) as listening:
        yield listening


class Disk:
    """A disk whose fsync hangs while `works` is not set."""

    def __init__(self) -> None:
        self.works = threading.Event()
        self.works.set()
        self.hangs = threading.Event()
        self.syncs = 0

    def open(self, path: Path, clock: Clock, *, check: bool = False) -> EventStore:
        store = _StoreOnDisk(path, clock, check=check)
        store.disk = self
        return store

    def sync(self) -> None:
        self.syncs += 1
        if not self.works.is_set():
            self.hangs.set()
        assert self.works.wait(PATIENCE)


class _StoreOnDisk(EventStore):
    disk: Disk

    def sync(self) -> None:
        self.disk.sync()
        super().sync()


@dataclass
class Events:
    """A queue with its writer, which a test steps or runs."""

    queue: EventQueue
    writer: EventWriter
    clock: Clock

    def add(self, *numbers: int) -> list[int]:
        """Append and save events; their sequence numbers."""
        sequences = []
        for number in numbers:
            self.queue.append(event(number=number), 1.0)
            sequences.append(self.queue.last_sequence)
        self.writer.step()
        return sequences

    def step(self, seconds: float = 2.0) -> None:
        """Let a time pass on a fake clock, and step the writer."""
        self.clock.seconds += seconds  # type: ignore[attr-defined]
        self.writer.step()

    def deliver(self, count: int = 10**9) -> list[int]:
        """Deliver events like the sender; the numbers in their IDs, in order."""
        numbers: list[int] = []
        while len(numbers) < count and (entry := self.head()) is not None:
            message = EventMessage.model_validate_json(entry.payload)
            assert message.sequence == entry.sequence
            numbers.append(message.event_id.int)
            self.queue.remove(entry.sequence)
        return numbers

    def head(self) -> QueuedEvent | None:
        entry = self.queue.head()
        if entry is None and self.queue.load_after is not None:
            self.writer.step()
            entry = self.queue.head()
        return entry


@contextmanager
def events_in(
    folder: Path,
    limits: QueueLimits = NO_LIMITS,
    clock: Clock | None = None,
    open_store: OpenStore = EventStore,
) -> Iterator[Events]:
    clock = clock or SystemClock()
    queue = EventQueue(clock, lambda: None)
    writer = EventWriter(
        queue, folder / "events-porch.sqlite", limits, clock, open_store=open_store
    )
    try:
        yield Events(queue, writer, clock)
    finally:
        writer.close()


@contextmanager
def in_service(*services: object) -> Iterator[list[threading.Thread]]:
    """Services in threads; they must be able to end."""
    threads = [
        threading.Thread(target=service.run, args=(BusyTimer(SystemClock()),), daemon=True)  # type: ignore[attr-defined]
        for service in services
    ]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for service in services:
            service.stop()  # type: ignore[attr-defined]
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@dataclass
class Publishing:
    """A publisher with its event queue, as in the daemon."""

    publisher: MqttPublisher
    events: Events

    @property
    def depth(self) -> int:
        return self.events.queue.depth


MakePublishing = Callable[..., Publishing]


@pytest.fixture
def make_publishing(tmp_path: Path, topic: str) -> Iterator[MakePublishing]:
    """Makes a publisher to a broker on a port of this machine, with its events in `tmp_path`."""
    with ExitStack() as resources:

        def make(
            port: int,
            *,
            rate_hz: float = 1000.0,
            clock: Clock | None = None,
            folder: Path = tmp_path,
            broker: Broker | None = None,
            client_id: str = "camera",
            stale_after_s: float = 10 * PATIENCE,
            is_paused: Callable[[], bool] = bool,
            open_store: OpenStore = EventStore,
            **more: object,
        ) -> Publishing:
            base, _, device_id = topic.rpartition("/")
            clock, topics = clock or SystemClock(), Topics(base, device_id)
            availability = AvailabilityMonitor(topics.availability, stale_after_s, is_paused, clock)
            client = MqttClient(
                broker or Broker("127.0.0.1", port, keepalive=5),
                client_id,
                clock,
                availability.offline,
            )
            queue = EventQueue(clock, client.wake)
            writer = EventWriter(
                queue, folder / "events-porch.sqlite", NO_LIMITS, clock, open_store=open_store
            )
            resources.callback(writer.close)
            publisher = MqttPublisher(
                client,
                topics,
                rate_hz,
                queue=queue,
                availability=availability,
                clock=clock,
                **more,  # type: ignore[arg-type]
            )
            return Publishing(publisher, Events(queue, writer, clock))

        yield make


@contextmanager
def serving(publishing: Publishing) -> Iterator[threading.Thread]:
    """The publisher and the writer in threads; the publisher's thread."""
    with in_service(publishing.publisher, publishing.events.writer) as (thread, _):
        yield thread


def wait_for_depth(publishing: Publishing, depth: int) -> None:
    eventually(lambda: publishing.depth == depth)
