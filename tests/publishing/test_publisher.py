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
from pathlib import Path

import pytest
from builders import event, probabilities, result
from conftest import FakeClock
from drawing import draw_scene
from publishing.broker import Mosquitto, Subscriber, subscribed
from publishing.fixtures import (
    CONNECTED,
    LOST,
    Attempts,
    MakePublisher,
    Told,
    outbox_in,
    serving,
)
from publishing.proxy import Proxy
from running import PATIENCE, STOP_LIMIT, broker_at, camera, eventually, free_port, running

from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.jsonl import JsonLines
from edge_daemon.publishing.publisher import MOST_UNSENT, MqttPublisher
from edge_daemon.publishing.topics import Message
from edge_daemon.records import FrameResult
from edge_daemon.schema import EventMessage, StateMessage

pytestmark = pytest.mark.usefixtures("attempts")

HAPPY = probabilities(happy=0.7)
ANYONE = (None, None)


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
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, topic: str
) -> None:
    with serving(make_publisher(broker.port)):
        subscriber.wait_for("availability", b"online")
        with subscribed(broker.port, topic) as late:
            late.wait_for("availability", b"online")
            (message,) = late.on("availability")
            assert (message.retain, message.qos) == (True, 1)


def test_clean_stop_says_goodbye(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, topic: str
) -> None:
    with serving(make_publisher(broker.port)):
        subscriber.wait_for("availability", b"online")
    subscriber.wait_for("availability", b"online", b"offline")
    with subscribed(broker.port, topic) as late:
        late.wait_for("availability", b"offline")


def test_stop_in_mid_handshake_closes_the_connection(make_publisher: MakePublisher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        publisher = make_publisher(silent.getsockname()[1])
        with serving(publisher):
            peer, _ = silent.accept()
        with peer:
            peer.settimeout(PATIENCE)
            while peer.recv(4096):
                pass


def test_what_is_under_way_at_the_stop_arrives_before_the_goodbye(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, told: Told
) -> None:
    publisher = make_publisher(broker.port)
    with serving(publisher):
        told.wait_for(CONNECTED)
        for one in results(MOST_UNSENT):
            publisher(one)
    subscriber.wait_for("availability", b"online", b"offline")
    assert frames(subscriber) == list(range(MOST_UNSENT))
    assert subscriber.messages[-1].payload == b"offline"


def test_killed_program_leaves_its_state_behind_and_offline_by_its_will(
    broker: Mosquitto, subscriber: Subscriber, topic: str, tmp_path: Path
) -> None:
    with (
        camera(draw_scene((60, 60, 120))) as live,
        running(
            tmp_path,
            *("--source", live.url, "--detector", "haar"),
            *broker_at(broker.port),
            *("--set", f"mqtt.base_topic={topic.rpartition('/')[0]}"),
            *("--set", f"device_id={topic.rpartition('/')[2]}"),
            *("--set", "mqtt.will_delay=1"),
        ) as program,
    ):
        subscriber.wait_until(lambda: bool(subscriber.on("event")))
        assert subscriber.payloads("availability") == [b"online"]
        assert EventMessage.model_validate_json(subscriber.payloads("event")[0]).sequence == 1
        assert StateMessage.model_validate_json(subscriber.payloads("state")[-1]).faces == 1
        assert subscriber.on("faces")
        program.end(signal.SIGKILL)
        subscriber.wait_for("availability", b"online", b"offline")
    with subscribed(broker.port, topic) as late:
        late.wait_for("availability", b"offline")


def test_faces_are_told_once_and_kept_nowhere(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, topic: str, told: Told
) -> None:
    publisher = make_publisher(broker.port)
    with serving(publisher):
        told.wait_for(CONNECTED)
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
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, clock: FakeClock
) -> None:
    one = with_event(results(1)[0])
    printed = io.BytesIO()
    JsonLines(printed, clock)(one)
    publisher = make_publisher(broker.port, patient=True, clock=clock)
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
    make_publisher: MakePublisher,
    broker: Mosquitto,
    subscriber: Subscriber,
    fps: float,
    expected: list[int],
) -> None:
    publisher = make_publisher(broker.port, rate=4, patient=True)
    with serving(publisher):
        for one in results(16, fps):
            publisher(one)
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert frames(subscriber) == expected
    assert publisher.dropped == 0


@pytest.mark.parametrize("fps", [5.0, 9.0, 30.0])
def test_rate_is_kept_on_average_and_after_a_gap(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, fps: float
) -> None:
    publisher = make_publisher(broker.port, rate=4, patient=True)
    with serving(publisher):
        for one in results(int(10 * fps), fps):
            publisher(one)
        for one in results(int(10 * fps), fps):
            late = dataclasses.replace(one.frame, stream_time=1000 + one.frame.stream_time)
            publisher(dataclasses.replace(one, frame=late))
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert 2 * 38 <= len(frames(subscriber)) <= 2 * 40


def test_result_with_an_event_always_goes(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber
) -> None:
    publisher = make_publisher(broker.port, rate=1, patient=True)
    made = results(9)
    with serving(publisher):
        for number, one in enumerate(made):
            publisher(with_event(one) if number in (3, 4) else one)
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert frames(subscriber) == [0, 3, 4, 8]


def test_broker_that_comes_back_is_found_again_and_what_was_dropped_is_counted(
    make_publisher: MakePublisher, broker: Mosquitto, topic: str, told: Told, attempts: Attempts
) -> None:
    publisher = make_publisher(broker.port)
    before, *lost, after = results(5)
    with serving(publisher):
        told.wait_for(CONNECTED)
        publisher(before)
        broker.stop()
        loss = told.wait_for(LOST)
        for one in lost:
            publisher(one)
        assert publisher.dropped == 3
        attempts.wait_for(3)
        broker.start()
        back = told.wait_for(CONNECTED, 2)
        with subscribed(broker.port, topic) as subscriber:
            subscriber.wait_for("availability", b"online")
            publisher(after)
            subscriber.wait_until(lambda: frames(subscriber) == [4])
    assert len(told.warnings()) == 1
    assert loss["broker"] == back["broker"] == f"127.0.0.1:{broker.port}"
    assert back["dropped"] == 3
    assert isinstance(back["away_seconds"], float)


def test_second_loss_is_told_anew(
    make_publisher: MakePublisher, broker: Mosquitto, told: Told
) -> None:
    with serving(make_publisher(broker.port)):
        for count in (1, 2):
            told.wait_for(CONNECTED, count)
            broker.stop()
            told.wait_for(LOST, count)
            broker.start()
        told.wait_for(CONNECTED, 3)
    assert len(told.warnings()) == 2


@pytest.fixture
def strict_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that only lets in who has the password."""
    strict = Mosquitto(tmp_path, passwords={"me": "right"})
    strict.start()
    yield strict
    strict.stop()


@pytest.mark.parametrize("login", [("me", "wrong"), ("other", "right"), ANYONE])
def test_refused_login_is_no_connection_and_is_told_once(
    make_publisher: MakePublisher,
    strict_broker: Mosquitto,
    told: Told,
    attempts: Attempts,
    login: tuple[str | None, str | None],
) -> None:
    publisher = make_publisher(0, broker=Broker("127.0.0.1", strict_broker.port, *login))
    with serving(publisher):
        attempts.wait_for(4)
        publisher(results(1)[0])
        assert publisher.dropped == 1
    (refusal,) = told.records
    assert refusal.levelno == logging.WARNING
    assert "refused" in vars(refusal)["reason"]
    assert "uthori" in vars(refusal)["reason"]


def test_right_login_is_let_in(
    make_publisher: MakePublisher, strict_broker: Mosquitto, told: Told
) -> None:
    broker = Broker("127.0.0.1", strict_broker.port, "me", "right")
    with serving(make_publisher(0, broker=broker)):
        told.wait_for(CONNECTED)
    assert told.warnings() == []


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
    make_publisher: MakePublisher, lazy_broker: LazyBroker, told: Told
) -> None:
    publisher = make_publisher(lazy_broker.port)
    with serving(publisher) as thread, lazy_broker.accept() as connection:
        lazy_broker.welcome(connection)
        told.wait_for(CONNECTED)
        fill(publisher, iter(results(200)))
        stopped = time.monotonic()
        publisher.stop()
        thread.join(PATIENCE)
        assert time.monotonic() - stopped < STOP_LIMIT


def test_what_was_under_way_when_the_connection_broke_is_dropped_and_counted(
    make_publisher: MakePublisher, lazy_broker: LazyBroker, told: Told
) -> None:
    publisher = make_publisher(lazy_broker.port)
    made = iter(results(400))
    with serving(publisher):
        with lazy_broker.accept() as connection:
            lazy_broker.welcome(connection)
            told.wait_for(CONNECTED)
            fill(publisher, made)
        told.wait_for(LOST)
        lost = publisher.dropped
        assert 1 < lost <= 1 + MOST_UNSENT
        with lazy_broker.accept() as connection:
            publisher(next(made))
            assert publisher.dropped == lost + 1
            lazy_broker.welcome(connection)
            told.wait_for(CONNECTED, 2)
            publisher(next(made))
            assert publisher.dropped == lost + 1


def start_feeding(publisher: MqttPublisher, made: list[FrameResult]) -> threading.Thread:
    def feed() -> None:
        for one in made:
            publisher(one)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    return thread


def test_patient_publisher_waits_for_the_broker_and_publishes_all_that_is_due(
    make_publisher: MakePublisher, tmp_path: Path, topic: str, told: Told, attempts: Attempts
) -> None:
    broker = Mosquitto(tmp_path)
    publisher = make_publisher(broker.port, patient=True)
    with serving(publisher):
        feeding = start_feeding(publisher, results(3 * MOST_UNSENT))
        told.wait_for(LOST)
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


def test_patient_publisher_gives_up_when_it_is_stopped(
    make_publisher: MakePublisher, told: Told
) -> None:
    publisher = make_publisher(free_port(), patient=True)
    with serving(publisher):
        feeding = start_feeding(publisher, results(2))
        told.wait_for(LOST)
    feeding.join(STOP_LIMIT)
    assert not feeding.is_alive()
    assert publisher.dropped == 2


def test_results_before_the_first_connection_are_dropped_when_live(
    make_publisher: MakePublisher,
) -> None:
    publisher = make_publisher(free_port())
    for one in results(5):
        publisher(one)
    assert publisher.dropped == 5


def test_stopping_without_a_broker_is_soon_done(make_publisher: MakePublisher, told: Told) -> None:
    with serving(make_publisher(free_port())) as thread:
        told.wait_for(LOST)
    assert not thread.is_alive()
    assert told.of(CONNECTED) == []


def told_in_order(subscriber: Subscriber) -> list[str]:
    return [message.topic.removeprefix(f"{subscriber.topic}/") for message in subscriber.messages]


def test_after_each_connect_presence_comes_first_then_discovery_state_and_events(
    make_publisher: MakePublisher, broker: Mosquitto, topic: str, told: Told
) -> None:
    asked = itertools.count(1)

    def discovery() -> list[Message]:
        return [Message(f"{topic}/discovery", b"%d" % next(asked), qos=1)]

    with Proxy(broker.port) as proxy, subscribed(broker.port, topic) as subscriber:
        target = Broker("127.0.0.1", proxy.port, will_delay=60, session_expiry=60)
        publisher = make_publisher(0, broker=target, discovery=discovery)
        publisher.keep(Message(f"{topic}/state", b"old", qos=1))
        publisher.keep(Message(f"{topic}/health", b"well", qos=1))
        publisher.keep(Message(f"{topic}/state", b"new", qos=1))
        publisher(with_event(results(1)[0]))
        with serving(publisher):
            for connections in (1, 2):
                told.wait_for(CONNECTED, connections)
                subscriber.wait_until(lambda: len(subscriber.on("health")) >= connections)  # noqa: B023
                proxy.drop_all()
                told.wait_for(LOST, connections)
        first = ["availability", "discovery", "state", "health"]
        assert told_in_order(subscriber)[:4] == first
        rest = [name for name in told_in_order(subscriber)[4:] if name in first]
        assert rest[:4] == first
    assert subscriber.payloads("discovery")[:2] == [b"1", b"2"]
    assert set(subscriber.payloads("state")) == {b"new"}
    assert told_in_order(subscriber).index("event") > 3
    assert publisher.reconnects >= 1


def test_kept_message_is_sent_at_once_and_of_many_only_the_last_counts(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, topic: str, told: Told
) -> None:
    publisher = make_publisher(broker.port)
    with serving(publisher):
        told.wait_for(CONNECTED)
        publisher.keep(Message(f"{topic}/state", b"1", retain=True, qos=1))
        subscriber.wait_for("state", b"1")
        for number in range(100):
            publisher.keep(Message(f"{topic}/state", b"%d" % number, retain=True, qos=1))
        subscriber.wait_until(lambda: subscriber.payloads("state")[-1] == b"99")
    with subscribed(broker.port, topic) as late:
        late.wait_for("state", b"99")


def test_birth_of_a_listener_brings_everything_that_is_so_again(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, topic: str, told: Told
) -> None:
    publisher = make_publisher(
        broker.port,
        birth_topic=f"{topic}/birth",
        discovery=lambda: [Message(f"{topic}/discovery", b"here", qos=1)],
    )
    publisher.keep(Message(f"{topic}/state", b"so", qos=1))
    with serving(publisher):
        subscriber.wait_for("state", b"so")
        subscriber.publish("birth", b"offline")
        subscriber.publish("birth", b"online")
        subscriber.wait_for("state", b"so", b"so")
    assert subscriber.payloads("discovery") == [b"here", b"here"]
    assert subscriber.payloads("availability") == [b"online", b"online", b"offline"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_commands_reach_their_handlers_but_not_retained_ones(
    make_publisher: MakePublisher, broker: Mosquitto, topic: str, told: Told, protocol: str
) -> None:
    heard: list[bytes] = []
    commands = {f"{topic}/set/paused": heard.append}
    with subscribed(broker.port, topic) as other:
        other.publish("set/paused", b"OLD", retain=True)
        target = Broker("127.0.0.1", broker.port, protocol=protocol)
        with serving(make_publisher(0, broker=target, commands=commands)):
            other.wait_until(lambda: b"online" in other.payloads("availability"))
            while not heard:
                other.publish("set/paused", b"ON")
            other.publish("set/paused", b"OFF")
            eventually(lambda: b"OFF" in heard)
    assert set(heard) == {b"ON", b"OFF"}


def test_device_without_results_is_offline_though_connected_and_online_with_the_next(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber
) -> None:
    publisher = make_publisher(broker.port, stale_after=0.5)
    with serving(publisher):
        subscriber.wait_for("availability", b"online", b"offline")
        publisher(results(1)[0])
        subscriber.wait_for("availability", b"online", b"offline", b"online")


def test_paused_device_stays_online(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber
) -> None:
    with serving(make_publisher(broker.port, stale_after=0.3, paused=lambda: True)):
        subscriber.wait_for("availability", b"online")
        time.sleep(1)
        assert subscriber.payloads("availability") == [b"online"]


def test_patient_publisher_returns_when_the_events_are_out(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    with outbox_in(tmp_path / "outbox") as outbox:
        publisher = make_publisher(broker.port, patient=True, outbox=outbox)
        with serving(publisher):
            for one in results(5):
                publisher(with_event(one))
                assert outbox.depth == 0
        subscriber.wait_until(lambda: len(subscriber.on("event")) == 5)


def test_event_is_logged_once_with_its_number_when_it_is_kept(
    make_publisher: MakePublisher, told: Told, tmp_path: Path
) -> None:
    with outbox_in(tmp_path / "outbox") as outbox:
        publisher = make_publisher(free_port(), outbox=outbox)
        publisher(with_event(results(1)[0]))
        assert outbox.depth == 1
    (record,) = told.records
    fields = vars(record)
    assert (record.getMessage(), record.levelno) == ("event", logging.INFO)
    assert (fields["kind"], fields["track_id"], fields["sequence"]) == ("appeared", 5, 1)
    assert fields["event_id"] == event().event_id


def test_stalled_network_never_holds_up_the_pipeline(
    make_publisher: MakePublisher, broker: Mosquitto, told: Told
) -> None:
    with Proxy(broker.port) as proxy:
        publisher = make_publisher(proxy.port)
        with serving(publisher):
            told.wait_for(CONNECTED)
            proxy.flowing.clear()
            slowest = 0.0
            for one in results(200):
                began = time.monotonic()
                publisher(with_event(large(one)))
                slowest = max(slowest, time.monotonic() - began)
            assert publisher.dropped > 0
            assert slowest < 2
            stopped = time.monotonic()
        assert time.monotonic() - stopped < STOP_LIMIT


def test_farewell_that_the_broker_does_not_answer_leaves_the_will_in_force(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, told: Told
) -> None:
    with Proxy(broker.port) as proxy:
        with serving(make_publisher(proxy.port)):
            subscriber.wait_for("availability", b"online")
            proxy.flowing.clear()
        proxy.drop_all()
        subscriber.wait_for("availability", b"online", b"offline")
