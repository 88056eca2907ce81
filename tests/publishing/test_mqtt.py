import dataclasses
import io
import itertools
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import event, probabilities, result
from conftest import FakeClock
from drawing import draw_scene
from publishing.broker import Mosquitto, Subscriber, subscribed
from running import PATIENCE, STOP_LIMIT, camera, free_port, running

from edge_daemon.clock import Clock, SystemClock
from edge_daemon.publishing.jsonl import JsonLines
from edge_daemon.publishing.mqtt import MOST_UNSENT, Broker, MqttPublisher
from edge_daemon.records import FrameResult

HAPPY = probabilities(happy=0.7)
ANYONE = (None, None)


class Told(logging.Handler):
    """Keeps what the publisher logs, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._arrived = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._arrived:
            self.records.append(record)
            self._arrived.notify_all()

    def at(self, level: int) -> list[logging.LogRecord]:
        return [record for record in self.records if record.levelno == level]

    def wait_for(self, level: int, count: int = 1) -> dict[str, object]:
        """Wait until there are `count` records of a level; the fields of the last of them."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.at(level)) >= count, PATIENCE)
            return vars(self.at(level)[count - 1])


@pytest.fixture
def told() -> Iterator[Told]:
    logger = logging.getLogger("edge_daemon.publishing.mqtt")
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


@pytest.fixture(autouse=True)
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    counted = Attempts()
    monkeypatch.setattr("edge_daemon.publishing.mqtt.backoff_delays", counted.delays)
    return counted


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    running_broker = Mosquitto(tmp_path)
    running_broker.start()
    yield running_broker
    running_broker.stop()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A base topic that no other test has."""
    return f"test/{request.node.name}"


@pytest.fixture
def subscriber(broker: Mosquitto, topic: str) -> Iterator[Subscriber]:
    with subscribed(broker.port, topic) as listening:
        yield listening


def publisher_to(
    port: int,
    topic: str,
    *,
    login: tuple[str | None, str | None] = ANYONE,
    rate: float = 1000.0,
    patient: bool = False,
    clock: Clock | None = None,
) -> MqttPublisher:
    return MqttPublisher(
        Broker("127.0.0.1", port, *login, keepalive=5),
        topic,
        f"client-{port}",
        rate,
        patient=patient,
        clock=clock or SystemClock(),
    )


@contextmanager
def serving(publisher: MqttPublisher) -> Iterator[threading.Thread]:
    """The publisher's service in a thread; it must be able to end."""
    thread = threading.Thread(target=publisher.run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        publisher.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def results(count: int, fps: float = 8.0) -> list[FrameResult]:
    """Results of frames in a row, numbered."""
    made = (result(number / fps, {1: HAPPY}) for number in range(count))
    return [
        dataclasses.replace(one, frame=dataclasses.replace(one.frame, index=number))
        for number, one in enumerate(made)
    ]


def with_event(one: FrameResult) -> FrameResult:
    return dataclasses.replace(one, events=(event(),))


def frames(subscriber: Subscriber) -> list[int]:
    return [json.loads(payload)["frame"] for payload in subscriber.payloads("faces")]


def test_presence_is_retained_and_reaches_who_comes_later(
    broker: Mosquitto, subscriber: Subscriber, topic: str
) -> None:
    with serving(publisher_to(broker.port, topic)):
        subscriber.wait_for("availability", b"online")
        with subscribed(broker.port, topic) as late:
            late.wait_for("availability", b"online")
            (message,) = late.on("availability")
            assert (message.retain, message.qos) == (True, 1)


def test_clean_stop_says_goodbye(broker: Mosquitto, subscriber: Subscriber, topic: str) -> None:
    with serving(publisher_to(broker.port, topic)):
        subscriber.wait_for("availability", b"online")
    subscriber.wait_for("availability", b"online", b"offline")
    with subscribed(broker.port, topic) as late:
        late.wait_for("availability", b"offline")


def test_stop_in_mid_handshake_closes_the_connection(topic: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        publisher = publisher_to(silent.getsockname()[1], topic)
        with serving(publisher):
            peer, _ = silent.accept()
        with peer:
            peer.settimeout(PATIENCE)
            while peer.recv(4096):
                pass


def test_what_is_under_way_at_the_stop_arrives_before_the_goodbye(
    broker: Mosquitto, subscriber: Subscriber, topic: str, told: Told
) -> None:
    publisher = publisher_to(broker.port, topic)
    with serving(publisher):
        told.wait_for(logging.INFO)
        for one in results(MOST_UNSENT):
            publisher(one)
    subscriber.wait_for("availability", b"online", b"offline")
    assert frames(subscriber) == list(range(MOST_UNSENT))
    assert subscriber.messages[-1].payload == b"offline"


def test_killed_program_leaves_offline_behind_by_its_will(
    broker: Mosquitto, subscriber: Subscriber, topic: str, tmp_path: Path
) -> None:
    with (
        camera(draw_scene((60, 60, 120))) as live,
        running(
            tmp_path,
            *("--source", live.url, "--detector", "haar"),
            *("--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={broker.port}"),
            *("--set", f"mqtt.base_topic={topic.rpartition('/')[0]}"),
            *("--set", f"device_id={topic.rpartition('/')[2]}"),
        ) as program,
    ):
        subscriber.wait_until(lambda: bool(subscriber.on("faces")))
        assert subscriber.payloads("availability") == [b"online"]
        program.end(signal.SIGKILL)
        subscriber.wait_for("availability", b"online", b"offline")
    with subscribed(broker.port, topic) as late:
        late.wait_for("availability", b"offline")


def test_faces_are_told_once_and_kept_nowhere(
    broker: Mosquitto, subscriber: Subscriber, topic: str, told: Told
) -> None:
    publisher = publisher_to(broker.port, topic)
    with serving(publisher):
        told.wait_for(logging.INFO)
        publisher(results(1)[0])
        subscriber.wait_until(lambda: bool(subscriber.on("faces")))
        (message,) = subscriber.on("faces")
        assert (message.qos, message.retain) == (0, False)
        with subscribed(broker.port, topic) as late:
            late.flush()
            assert [message.topic for message in late.messages if message.retain] == [
                f"{topic}/availability"
            ]


def test_payload_is_the_line_that_jsonl_prints(
    broker: Mosquitto, subscriber: Subscriber, topic: str, clock: FakeClock
) -> None:
    one = with_event(results(1)[0])
    printed = io.BytesIO()
    JsonLines(printed, clock)(one)
    publisher = publisher_to(broker.port, topic, patient=True, clock=clock)
    with serving(publisher):
        publisher(one)
        subscriber.wait_for("faces", printed.getvalue().removesuffix(b"\n"))


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (8.0, [0, 2, 4, 6, 8, 10, 12, 14]),  # twice the rate
        (4.0, list(range(16))),  # the rate
        (1.0, list(range(16))),  # below it
    ],
)
def test_results_go_at_the_rate_by_the_sources_own_time(
    broker: Mosquitto,
    subscriber: Subscriber,
    topic: str,
    fps: float,
    expected: list[int],
) -> None:
    publisher = publisher_to(broker.port, topic, rate=4, patient=True)
    with serving(publisher):
        for one in results(16, fps):
            publisher(one)
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert frames(subscriber) == expected
    assert publisher.dropped == 0


@pytest.mark.parametrize("fps", [5.0, 9.0, 30.0])
def test_rate_is_kept_on_average_and_after_a_gap(
    broker: Mosquitto, subscriber: Subscriber, topic: str, fps: float
) -> None:
    publisher = publisher_to(broker.port, topic, rate=4, patient=True)
    with serving(publisher):
        for one in results(int(10 * fps), fps):
            publisher(one)
        for one in results(int(10 * fps), fps):
            late = dataclasses.replace(one.frame, stream_time=1000 + one.frame.stream_time)
            publisher(dataclasses.replace(one, frame=late))
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert 2 * 38 <= len(frames(subscriber)) <= 2 * 40


def test_result_with_an_event_always_goes(
    broker: Mosquitto, subscriber: Subscriber, topic: str
) -> None:
    publisher = publisher_to(broker.port, topic, rate=1, patient=True)
    made = results(9)
    with serving(publisher):
        for number, one in enumerate(made):
            publisher(with_event(one) if number in (3, 4) else one)
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert frames(subscriber) == [0, 3, 4, 8]


def test_broker_that_comes_back_is_found_again_and_what_was_dropped_is_counted(
    broker: Mosquitto, topic: str, told: Told, attempts: Attempts
) -> None:
    publisher = publisher_to(broker.port, topic)
    before, *lost, after = results(5)
    with serving(publisher):
        told.wait_for(logging.INFO)
        publisher(before)
        broker.stop()
        loss = told.wait_for(logging.WARNING)
        for one in lost:
            publisher(one)
        assert publisher.dropped == 3
        attempts.wait_for(3)
        broker.start()
        back = told.wait_for(logging.INFO, count=2)
        with subscribed(broker.port, topic) as subscriber:
            subscriber.wait_for("availability", b"online")
            publisher(after)
            subscriber.wait_until(lambda: frames(subscriber) == [4])
    assert len(told.at(logging.WARNING)) == 1
    assert loss["broker"] == back["broker"] == f"127.0.0.1:{broker.port}"
    assert back["dropped"] == 3
    assert isinstance(back["away_seconds"], float)


def test_second_loss_is_told_anew(broker: Mosquitto, topic: str, told: Told) -> None:
    with serving(publisher_to(broker.port, topic)):
        for count in (1, 2):
            told.wait_for(logging.INFO, count)
            broker.stop()
            told.wait_for(logging.WARNING, count)
            broker.start()
        told.wait_for(logging.INFO, 3)
    assert len(told.at(logging.WARNING)) == 2


@pytest.fixture
def strict_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that only lets in who has the password."""
    strict = Mosquitto(tmp_path, passwords={"me": "right"})
    strict.start()
    yield strict
    strict.stop()


@pytest.mark.parametrize("login", [("me", "wrong"), ("other", "right"), ANYONE])
def test_refused_login_is_no_connection_and_is_told_once(
    strict_broker: Mosquitto,
    topic: str,
    told: Told,
    attempts: Attempts,
    login: tuple[str | None, str | None],
) -> None:
    publisher = publisher_to(strict_broker.port, topic, login=login)
    with serving(publisher):
        attempts.wait_for(4)
        publisher(results(1)[0])
        assert publisher.dropped == 1
    (refusal,) = told.records
    assert refusal.levelno == logging.WARNING
    assert "refused" in vars(refusal)["reason"]
    assert "uthori" in vars(refusal)["reason"]


def test_right_login_is_let_in(strict_broker: Mosquitto, topic: str, told: Told) -> None:
    with serving(publisher_to(strict_broker.port, topic, login=("me", "right"))):
        told.wait_for(logging.INFO)
    assert told.at(logging.WARNING) == []


class LazyBroker:
    """Takes connections, welcomes them when it is told to, and reads nothing more."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port = int(self._server.getsockname()[1])

    def accept(self) -> socket.socket:
        self._server.settimeout(PATIENCE)
        connection, _ = self._server.accept()
        assert connection.recv(1) == b"\x10", "no CONNECT"
        return connection

    def welcome(self, connection: socket.socket) -> None:
        connection.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK: success

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def lazy_broker() -> Iterator[LazyBroker]:
    server = LazyBroker()
    yield server
    server.close()


def large(one: FrameResult) -> FrameResult:
    """The same with so many faces that few such messages fill a socket's buffers."""
    return dataclasses.replace(one, faces=one.faces * 1000)


def fill(publisher: MqttPublisher, made: Iterator[FrameResult]) -> None:
    """Publish until there is no more room."""
    for one in itertools.islice(made, 10 * MOST_UNSENT):
        publisher(large(one))
        if publisher.dropped:
            return
    pytest.fail("the queue knows no bound")


def test_broker_that_does_not_read_gets_no_more_than_a_bounded_queue(
    lazy_broker: LazyBroker, topic: str, told: Told
) -> None:
    publisher = publisher_to(lazy_broker.port, topic)
    with serving(publisher) as thread, lazy_broker.accept() as connection:
        lazy_broker.welcome(connection)
        told.wait_for(logging.INFO)
        fill(publisher, iter(results(200)))
        stopped = time.monotonic()
        publisher.stop()
        thread.join(PATIENCE)
        assert time.monotonic() - stopped < STOP_LIMIT


def test_what_was_under_way_when_the_connection_broke_is_dropped_and_counted(
    lazy_broker: LazyBroker, topic: str, told: Told
) -> None:
    publisher = publisher_to(lazy_broker.port, topic)
    made = iter(results(400))
    with serving(publisher):
        with lazy_broker.accept() as connection:
            lazy_broker.welcome(connection)
            told.wait_for(logging.INFO)
            fill(publisher, made)
        told.wait_for(logging.WARNING)
        assert publisher.dropped == 1
        with lazy_broker.accept() as connection:
            publisher(next(made))
            lost = publisher.dropped
            assert 2 < lost <= 2 + MOST_UNSENT
            lazy_broker.welcome(connection)
            told.wait_for(logging.INFO, count=2)
            publisher(next(made))
            assert publisher.dropped == lost


def test_result_that_meets_the_very_moment_of_a_loss_ends_nothing(topic: str) -> None:
    publisher = publisher_to(free_port(), topic)
    publisher._connected.set()  # as it still seems to be while the socket is closed already
    for one in results(3):
        publisher(one)


def start_feeding(publisher: MqttPublisher, made: list[FrameResult]) -> threading.Thread:
    def feed() -> None:
        for one in made:
            publisher(one)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    return thread


def test_patient_publisher_waits_for_the_broker_and_publishes_all_that_is_due(
    tmp_path: Path, topic: str, told: Told, attempts: Attempts
) -> None:
    broker = Mosquitto(tmp_path)
    publisher = publisher_to(broker.port, topic, patient=True)
    with serving(publisher):
        feeding = start_feeding(publisher, results(3 * MOST_UNSENT))
        told.wait_for(logging.WARNING)
        attempts.allowed.clear()
        broker.start()
        with subscribed(broker.port, topic) as subscriber:
            assert feeding.is_alive()
            attempts.allowed.set()
            subscriber.wait_until(lambda: len(subscriber.on("faces")) == 3 * MOST_UNSENT)
            assert frames(subscriber) == list(range(3 * MOST_UNSENT))
        feeding.join(PATIENCE)
    broker.stop()
    assert publisher.dropped == 0


def test_patient_publisher_gives_up_when_it_is_stopped(topic: str, told: Told) -> None:
    publisher = publisher_to(free_port(), topic, patient=True)
    with serving(publisher):
        feeding = start_feeding(publisher, results(2))
        told.wait_for(logging.WARNING)
    feeding.join(STOP_LIMIT)
    assert not feeding.is_alive()
    assert publisher.dropped == 2


def test_results_before_the_first_connection_are_dropped_when_live(topic: str) -> None:
    publisher = publisher_to(free_port(), topic)
    for one in results(5):
        publisher(one)
    assert publisher.dropped == 5


def test_stopping_without_a_broker_is_soon_done(topic: str, told: Told) -> None:
    with serving(publisher_to(free_port(), topic)) as thread:
        told.wait_for(logging.WARNING)
    assert not thread.is_alive()
    assert told.at(logging.INFO) == []
