"""What tests of publishing share."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import PATIENCE

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.event_queue import Outbox, OutboxLimits
from edge_daemon.publishing.publisher import MqttPublisher
from edge_daemon.publishing.topics import Topics

MakePublisher = Callable[..., MqttPublisher]

NO_LIMITS = OutboxLimits(events=10**9, age=1e9)

CONNECTED, LOST = "connected to the broker", "no connection to the broker"


class Told(logging.Handler):
    """Keeps what is logged, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._arrived = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._arrived:
            self.records.append(record)
            self._arrived.notify_all()

    def of(self, words: str) -> list[dict[str, object]]:
        """The fields of the records with these words."""
        return [vars(record) for record in self.records if words in record.getMessage()]

    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno > logging.INFO]

    def wait_for(self, words: str, count: int = 1) -> dict[str, object]:
        """Wait until there are `count` such records; the fields of the last of them."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: len(self.of(words)) >= count, PATIENCE)
            assert found, [record.getMessage() for record in self.records]
            return self.of(words)[count - 1]


@pytest.fixture
def told() -> Iterator[Told]:
    logger = logging.getLogger("edge_daemon.publishing")
    handler = Told()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


class Attempts:
    """Pauses between attempts, made short; tests can hold them, and wait until there were some."""

    def __init__(self) -> None:
        self.allowed = threading.Event()
        self.allowed.set()
        self._counted = threading.Condition()
        self._count = 0

    def delays(self) -> Iterator[float]:
        while True:
            with self._counted:
                self._count += 1
                self._counted.notify_all()
            self.allowed.wait(PATIENCE)
            yield 0.02

    def wait_for(self, count: int) -> None:
        with self._counted:
            wanted = self._count + count
            assert self._counted.wait_for(lambda: self._count >= wanted, PATIENCE)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    counted = Attempts()
    monkeypatch.setattr("edge_daemon.publishing.connection.backoff_delays", counted.delays)
    return counted


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


@contextmanager
def outbox_in(
    folder: Path, limits: OutboxLimits = NO_LIMITS, clock: Clock | None = None
) -> Iterator[Outbox]:
    outbox = Outbox(folder, "porch", limits, clock or SystemClock())
    try:
        yield outbox
    finally:
        outbox.close()


@pytest.fixture
def make_publisher(tmp_path: Path, topic: str) -> Iterator[MakePublisher]:
    """Makes a publisher to a broker on a port of this machine, with an outbox in this folder."""
    with ExitStack() as resources:

        def make(
            port: int,
            *,
            rate: float = 1000.0,
            patient: bool = False,
            clock: Clock | None = None,
            outbox: Outbox | None = None,
            broker: Broker | None = None,
            client_id: str = "camera",
            **more: object,
        ) -> MqttPublisher:
            base, _, device_id = topic.rpartition("/")
            clock = clock or SystemClock()
            return MqttPublisher(
                broker or Broker("127.0.0.1", port, keepalive=5),
                client_id,
                Topics(base, device_id),
                rate,
                outbox=outbox or resources.enter_context(outbox_in(tmp_path, clock=clock)),
                patient=patient,
                clock=clock,
                **more,  # type: ignore[arg-type]
            )

        yield make


@contextmanager
def serving(publisher: MqttPublisher) -> Iterator[threading.Thread]:
    """The publisher's service in a thread; it must be able to end."""
    thread = threading.Thread(target=publisher.run, args=(nullcontext,), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        publisher.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
