import dataclasses
import io
import itertools
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from builders import event, probabilities, result
from conftest import FakeClock
from drawing import draw_scene
from publishing.broker import Mosquitto, Subscriber, subscribed
from publishing.fixtures import (
    CONNECTED,
    LOST,
    NOT_DURABLE,
    Attempts,
    Disk,
    Logs,
    MakePublishing,
    Publishing,
    in_service,
    serving,
    wait_for_depth,
)
from publishing.proxy import Proxy
from publishing.scripted import CONNACK, Published, ScriptedBroker, connack, publish
from running import (
    PATIENCE,
    STOP_LIMIT_WITH_WAITS,
    broker_at,
    camera,
    eventually,
    free_port,
    running,
)

from edge_daemon._lib.clock import SystemClock
from edge_daemon.publishing import JsonLines
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.client import MAX_SHORT
from edge_daemon.publishing.commands import PauseCommands
from edge_daemon.publishing.messages import Message
from edge_daemon.publishing.mqtt import MAX_RECEIVED_BYTES
from edge_daemon.publishing.publisher import LASTING_S, MAX_TELEMETRY
from edge_daemon.publishing.state import OVERWRITTEN
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


def test_publisher_availability_is_retained(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber, topic: str
) -> None:
    with serving(make_publishing(broker.port)):
        subscriber.wait_for("availability", b"online")
        with subscribed(broker.port, topic) as late:
            late.wait_for("availability", b"online")
            (message,) = late.on("availability")
            assert (message.retain, message.qos) == (True, 1)


@pytest.mark.usefixtures("_time_to_stop")
def test_publisher_stop_publishes_offline(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber, topic: str
) -> None:
    with serving(make_publishing(broker.port)):
        subscriber.wait_for("availability", b"online")
    subscriber.wait_for("availability", b"online", b"offline")
    with subscribed(broker.port, topic) as late:
        late.wait_for("availability", b"offline")


@pytest.fixture
def _time_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the last messages as much time as a busy machine needs."""
    for name in ("FLUSH_TIMEOUT_S", "DISCONNECT_TIMEOUT_S"):
        monkeypatch.setattr(f"edge_daemon.publishing.publisher.{name}", PATIENCE)


@pytest.fixture
def quick_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.publishing.state.SETTLE_S", 0.2)
    monkeypatch.setattr("edge_daemon.publishing.state.REPEAT_INTERVAL_S", 0.2)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.usefixtures("quick_repetition", "_time_to_stop")
def test_publisher_second_device_stops_keeps_online(
    make_publishing: MakePublishing,
    broker: Mosquitto,
    subscriber: Subscriber,
    topic: str,
    *,
    tmp_path: Path,
    logs: Logs,
    protocol: Literal["5", "3.1.1"],
) -> None:
    target = Broker("127.0.0.1", broker.port, protocol=protocol)
    with serving(make_publishing(0, broker=target)):
        subscriber.wait_for("availability", b"online")
        with serving(make_publishing(0, broker=target, client_id="2", folder=tmp_path / "2")):
            subscriber.wait_for("availability", b"online", b"online")
        repeated = [b"online", b"online", b"offline", b"online"]
        subscriber.wait_for("availability", *repeated)
        with subscribed(broker.port, topic) as late:
            late.wait_for("availability", b"online")
        assert logs.wait_for(OVERWRITTEN)["topic"] == f"{topic}/availability"
        subscriber.publish("availability", b"", retain=True)
        subscriber.wait_for("availability", *repeated, b"", b"online")
    subscriber.wait_for("availability", *repeated, b"", b"online", b"offline")
    assert len(logs.of(OVERWRITTEN)) == 1


@pytest.mark.usefixtures("quick_repetition")
def test_publisher_second_device_offline_is_answered_once(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    is_well = threading.Event()
    is_well.set()
    with serving(make_publishing(broker.port)):
        subscriber.wait_for("availability", b"online")
        other = {"client_id": "2", "folder": tmp_path / "2", "is_paused": is_well.is_set}
        with serving(make_publishing(broker.port, stale_after_s=0.5, **other)):
            subscriber.wait_for("availability", b"online", b"online")
            is_well.clear()
            expected = [b"online", b"online", b"offline", b"online"]
            subscriber.wait_for("availability", *expected)
            time.sleep(1.0)
            assert subscriber.payloads("availability") == expected


def test_publisher_respects_the_receive_maximum(make_publishing: MakePublishing) -> None:
    one = connack(b"\x21\x00\x01")

    def respond(message: Published) -> int | None:
        return None if message.topic.endswith("availability") else 0

    with ScriptedBroker(one, respond) as broker:
        made = make_publishing(broker.port)
        made.events.add(1)
        with serving(made):
            broker.wait_until(lambda: bool(broker.on("availability")))
            time.sleep(0.5)
            assert broker.on("event") == []
            (online,) = broker.on("availability")
            broker.send(b"\x40\x02" + online.packet_id.to_bytes(2))
            broker.wait_until(lambda: bool(broker.on("event")))


def test_publisher_refused_subscription_is_logged_with_topic(
    make_publishing: MakePublishing, topic: str, logs: Logs
) -> None:
    with ScriptedBroker(subscribed=0x87) as broker, serving(make_publishing(broker.port)):
        topics = logs.wait_for("subscription refused")["topics"]
    assert topics == f"{topic}/availability: Not authorized"


def test_publisher_stop_during_handshake_closes_connection(make_publishing: MakePublishing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        publishing = make_publishing(silent.getsockname()[1])
        with serving(publishing):
            peer, _ = silent.accept()
        with peer:
            peer.settimeout(PATIENCE)
            while peer.recv(4096):
                pass


@pytest.mark.usefixtures("_time_to_stop")
def test_publisher_stop_sends_waiting_results_before_offline(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber, logs: Logs
) -> None:
    with Proxy(broker.port) as proxy:
        publishing = make_publishing(proxy.port)
        with serving(publishing) as thread:
            logs.wait_for(CONNECTED)
            proxy.flowing.clear()
            accepted = fill(publishing, results(200))
            publishing.publisher.stop()
            proxy.flowing.set()
            thread.join(PATIENCE)
    subscriber.wait_for("availability", b"online", b"offline")
    assert frames(subscriber) == list(range(accepted))
    assert subscriber.messages[-1].payload == b"offline"


def daemon_options(broker: Mosquitto, topic: str, source: object) -> tuple[object, ...]:
    base, _, device_id = topic.rpartition("/")
    return (
        *("--source", source, "--detector", "haar"),
        *broker_at(broker.port),
        *("--set", f"mqtt.base_topic={base}", "--set", f"device_id={device_id}"),
    )


def test_daemon_killed_leaves_state_and_offline_by_will(
    broker: Mosquitto, subscriber: Subscriber, topic: str, tmp_path: Path
) -> None:
    with (
        camera(draw_scene((60, 60, 120))) as live,
        running(
            tmp_path,
            *daemon_options(broker, topic, live.url),
            *("--set", "mqtt.will_delay=1"),
        ) as program,
    ):
        subscriber.wait_until(lambda: bool(subscriber.on("event")))
        assert subscriber.payloads("availability") == [b"online"]
        assert EventMessage.model_validate_json(subscriber.payloads("event")[0]).sequence == 1
        subscriber.wait_until(lambda: states(subscriber)[-1].faces == 1)
        subscriber.wait_until(lambda: bool(subscriber.on("faces")))
        program.end(signal.SIGKILL)
        subscriber.wait_for("availability", b"online", b"offline")
    with subscribed(broker.port, topic) as late:
        late.wait_for("availability", b"offline")


def states(subscriber: Subscriber) -> list[StateMessage]:
    return [StateMessage.model_validate_json(one) for one in subscriber.payloads("state")]


def test_daemon_stopped_retains_state_without_faces(
    broker: Mosquitto, subscriber: Subscriber, topic: str, tmp_path: Path
) -> None:
    with camera(draw_scene((60, 60, 120))) as live:
        # A face that has not appeared yet makes no event when it leaves.
        words = (*daemon_options(broker, topic, live.url), "--set", "events.appear_after=3600")
        with running(tmp_path, *words) as program:
            subscriber.wait_until(lambda: any(state.faces for state in states(subscriber)))
            assert program.end(signal.SIGTERM)[0] == 0
    # On a busy machine it comes by the will, some seconds later.
    subscriber.wait_until(lambda: subscriber.payloads("availability")[-1] == b"offline")
    with subscribed(broker.port, topic) as late:
        late.wait_for("availability", b"offline")
        late.flush()  # the retained messages come in any order
        (state,) = states(late)
    assert (state.faces, state.emotion) == (0, "none")


def test_daemon_with_slow_camera_stays_online(
    broker: Mosquitto, subscriber: Subscriber, topic: str, tmp_path: Path
) -> None:
    slow = ("--set", "capture.fps=0.3", "--set", "mqtt.stale_after=0.5")
    with (
        camera(draw_scene((60, 60, 120))) as live,
        running(tmp_path, *daemon_options(broker, topic, live.url), *slow),
    ):
        subscriber.wait_until(lambda: len(subscriber.on("faces")) == 3)
        assert subscriber.payloads("availability") == [b"online"]


@pytest.mark.parametrize("is_paused", [False, True])
def test_daemon_start_without_camera_replaces_retained_faces(
    broker: Mosquitto, subscriber: Subscriber, topic: str, tmp_path: Path, *, is_paused: bool
) -> None:
    if is_paused:
        file = tmp_path / "state" / "edge-daemon" / f"paused-{topic.rpartition('/')[2]}"
        file.parent.mkdir(parents=True)
        file.touch()
    missing = f"http://127.0.0.1:{free_port()}/stream"
    with running(tmp_path, *daemon_options(broker, topic, missing)):
        subscriber.wait_for("availability", b"online")
        names = names_in_order(subscriber)
        assert names.index("state") < names.index("availability")
        state = states(subscriber)[0]
    assert (state.faces, state.emotion, state.paused) == (0, "none", is_paused)


def test_publisher_faces_are_not_retained(
    make_publishing: MakePublishing,
    broker: Mosquitto,
    subscriber: Subscriber,
    topic: str,
    logs: Logs,
) -> None:
    publishing = make_publishing(broker.port)
    with serving(publishing):
        logs.wait_for(CONNECTED)
        publishing.publisher(results(1)[0])
        subscriber.wait_until(lambda: bool(subscriber.on("faces")))
        (message,) = subscriber.on("faces")
        assert (message.qos, message.retain) == (0, False)
        with subscribed(broker.port, topic) as late:
            late.flush()
            assert [message.topic for message in late.messages if message.retain] == [
                f"{topic}/availability"
            ]


def test_publisher_faces_payload_equals_jsonl(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber, clock: FakeClock
) -> None:
    one = with_event(results(1)[0])
    printed = io.BytesIO()
    JsonLines(printed, clock)(one)
    publishing = make_publishing(broker.port, back_pressure="block", clock=clock)
    with serving(publishing):
        publishing.publisher(one)
        subscriber.wait_for("faces", printed.getvalue().removesuffix(b"\n"))


@pytest.mark.usefixtures("_time_to_stop")
@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (8.0, [0, 2, 4, 6, 8, 10, 12, 14]),  # twice the rate
        (4.0, list(range(16))),  # the rate
        (1.0, list(range(16))),  # below it
    ],
)
def test_publisher_rate_uses_source_time(
    make_publishing: MakePublishing,
    broker: Mosquitto,
    subscriber: Subscriber,
    fps: float,
    expected: list[int],
) -> None:
    publishing = make_publishing(broker.port, rate_hz=4, back_pressure="block")
    with serving(publishing):
        for one in results(16, fps):
            publishing.publisher(one)
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert frames(subscriber) == expected
    assert publishing.publisher.dropped == 0


@pytest.mark.usefixtures("_time_to_stop")
@pytest.mark.parametrize("fps", [5.0, 9.0, 30.0])
def test_publisher_rate_is_a_mean(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber, fps: float
) -> None:
    publishing = make_publishing(broker.port, rate_hz=4, back_pressure="block")
    with serving(publishing):
        for one in results(int(10 * fps), fps):
            publishing.publisher(one)
        for one in results(int(10 * fps), fps):
            late = dataclasses.replace(one.frame, stream_time_s=1000 + one.frame.stream_time_s)
            publishing.publisher(dataclasses.replace(one, frame=late))
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert 2 * 38 <= len(frames(subscriber)) <= 2 * 40


@pytest.mark.usefixtures("_time_to_stop")
def test_publisher_result_with_event_exceeds_rate(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber
) -> None:
    publishing = make_publishing(broker.port, rate_hz=1, back_pressure="block")
    made = results(9)
    with serving(publishing):
        for number, one in enumerate(made):
            publishing.publisher(with_event(one) if number in (3, 4) else one)
    subscriber.wait_until(lambda: len(subscriber.on("availability")) == 2)
    assert frames(subscriber) == [0, 3, 4, 8]


def test_publisher_broker_restart_counts_dropped_results(
    make_publishing: MakePublishing, broker: Mosquitto, topic: str, logs: Logs, attempts: Attempts
) -> None:
    publishing = make_publishing(broker.port)
    before, *lost, after = results(5)
    with serving(publishing):
        logs.wait_for(CONNECTED)
        with subscribed(broker.port, topic) as subscriber:
            publishing.publisher(before)
            subscriber.wait_until(lambda: frames(subscriber) == [0])
        broker.stop()
        loss = logs.wait_for(LOST)
        for one in lost:
            publishing.publisher(one)
        assert publishing.publisher.dropped == 3
        attempts.wait_for(3)
        broker.start()
        back = logs.wait_for(CONNECTED, 2)
        with subscribed(broker.port, topic) as subscriber:
            subscriber.wait_for("availability", b"online")
            publishing.publisher(after)
            subscriber.wait_until(lambda: frames(subscriber) == [4])
    assert len(logs.warnings()) == 1
    assert loss["broker"] == back["broker"] == f"127.0.0.1:{broker.port}"
    assert back["dropped"] == 3
    assert isinstance(back["away_seconds"], float)


def test_publisher_second_loss_is_logged(
    make_publishing: MakePublishing, broker: Mosquitto, logs: Logs
) -> None:
    with serving(make_publishing(broker.port)):
        for count in (1, 2):
            logs.wait_for(CONNECTED, count)
            broker.stop()
            logs.wait_for(LOST, count)
            broker.start()
        logs.wait_for(CONNECTED, 3)
    assert len(logs.warnings()) == 2


@pytest.fixture
def strict_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that only lets in who has the password."""
    strict = Mosquitto(tmp_path, passwords={"me": "right"})
    strict.start()
    yield strict
    strict.stop()


@pytest.mark.parametrize("login", [("me", "wrong"), ("other", "right"), ANYONE])
def test_publisher_refused_login_is_logged_once(
    make_publishing: MakePublishing,
    strict_broker: Mosquitto,
    logs: Logs,
    attempts: Attempts,
    login: tuple[str | None, str | None],
) -> None:
    publishing = make_publishing(0, broker=Broker("127.0.0.1", strict_broker.port, *login))
    with serving(publishing):
        attempts.wait_for(4)
        publishing.publisher(results(1)[0])
        assert publishing.publisher.dropped == 1
    (refusal,) = logs.records
    assert refusal.levelno == logging.WARNING
    assert "refused" in vars(refusal)["reason"]
    assert "uthori" in vars(refusal)["reason"]


def test_publisher_right_login_connects(
    make_publishing: MakePublishing, strict_broker: Mosquitto, logs: Logs
) -> None:
    broker = Broker("127.0.0.1", strict_broker.port, "me", "right")
    with serving(make_publishing(0, broker=broker)):
        logs.wait_for(CONNECTED)
    assert logs.warnings() == []


class LazyBroker:
    """Takes connections, acknowledges them on request, and reads nothing more."""

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


def fill(publishing: Publishing, made: Iterable[FrameResult]) -> int:
    """Publish until there is no more room; the number of accepted results."""
    for accepted, one in enumerate(itertools.islice(made, 10 * MAX_TELEMETRY)):
        publishing.publisher(large(one))
        if publishing.publisher.dropped:
            return accepted
    pytest.fail("the queue knows no bound")


def test_publisher_broker_that_does_not_read_fills_bounded_queue(
    make_publishing: MakePublishing, lazy_broker: LazyBroker, logs: Logs
) -> None:
    publishing = make_publishing(lazy_broker.port)
    with serving(publishing) as thread, lazy_broker.accept() as connection:
        lazy_broker.welcome(connection)
        logs.wait_for(CONNECTED)
        fill(publishing, iter(results(200)))
        stopped = time.monotonic()
        publishing.publisher.stop()
        thread.join(PATIENCE)
        assert time.monotonic() - stopped < STOP_LIMIT_WITH_WAITS


def test_publisher_lost_connection_counts_waiting_results(
    make_publishing: MakePublishing, lazy_broker: LazyBroker, logs: Logs
) -> None:
    publishing = make_publishing(lazy_broker.port)
    made = iter(results(400))
    with serving(publishing):
        with lazy_broker.accept() as connection:
            lazy_broker.welcome(connection)
            logs.wait_for(CONNECTED)
            fill(publishing, made)
        logs.wait_for(LOST)
        lost = publishing.publisher.dropped
        assert 1 < lost <= 1 + MAX_TELEMETRY
        with lazy_broker.accept() as connection:
            publishing.publisher(next(made))
            assert publishing.publisher.dropped == lost + 1
            lazy_broker.welcome(connection)
            logs.wait_for(CONNECTED, 2)
            publishing.publisher(next(made))
            assert publishing.publisher.dropped == lost + 1


def start_feeding(publishing: Publishing, made: list[FrameResult]) -> threading.Thread:
    def feed() -> None:
        for one in made:
            publishing.publisher(one)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    return thread


def test_publisher_blocking_waits_for_broker(
    make_publishing: MakePublishing, tmp_path: Path, topic: str, logs: Logs, attempts: Attempts
) -> None:
    broker = Mosquitto(tmp_path)
    publishing = make_publishing(broker.port, back_pressure="block")
    with serving(publishing):
        feeding = start_feeding(publishing, results(3 * MAX_TELEMETRY))
        logs.wait_for(LOST)
        attempts.block()
        broker.start()
        with subscribed(broker.port, topic) as subscriber:
            assert feeding.is_alive()
            attempts.allow()
            subscriber.wait_until(lambda: len(subscriber.on("faces")) == 3 * MAX_TELEMETRY)
            assert frames(subscriber) == list(range(3 * MAX_TELEMETRY))
        feeding.join(PATIENCE)
    broker.stop()
    assert publishing.publisher.dropped == 0


def test_publisher_blocking_ends_at_stop(make_publishing: MakePublishing, logs: Logs) -> None:
    publishing = make_publishing(free_port(), back_pressure="block")
    with serving(publishing):
        feeding = start_feeding(publishing, results(2))
        logs.wait_for(LOST)
    feeding.join(STOP_LIMIT_WITH_WAITS)
    assert not feeding.is_alive()
    assert publishing.publisher.dropped == 2


def test_publisher_results_without_connection_are_dropped(
    make_publishing: MakePublishing,
) -> None:
    publishing = make_publishing(free_port())
    for one in results(5):
        publishing.publisher(one)
    assert publishing.publisher.dropped == 5


def test_publisher_stop_without_broker_is_quick(
    make_publishing: MakePublishing, logs: Logs
) -> None:
    with serving(make_publishing(free_port())) as thread:
        logs.wait_for(LOST)
    assert not thread.is_alive()
    assert logs.of(CONNECTED) == []


def names_in_order(subscriber: Subscriber) -> list[str]:
    return [message.topic.removeprefix(f"{subscriber.topic}/") for message in subscriber.messages]


def test_publisher_connect_sends_state_before_events(
    make_publishing: MakePublishing, broker: Mosquitto, topic: str, logs: Logs
) -> None:
    discovery = Message(f"{topic}/discovery", b"here", qos=1)
    with Proxy(broker.port) as proxy, subscribed(broker.port, topic) as subscriber:
        target = Broker("127.0.0.1", proxy.port, will_delay=60, session_expiry=60)
        publishing = make_publishing(0, broker=target, discovery=discovery)
        publishing.publisher.publish_retained(Message(f"{topic}/state", b"old", qos=1))
        publishing.publisher.publish_retained(Message(f"{topic}/health", b"well", qos=1))
        publishing.publisher.publish_retained(Message(f"{topic}/state", b"new", qos=1))
        publishing.publisher(with_event(results(1)[0]))
        with serving(publishing):
            for connections in (1, 2):
                logs.wait_for(CONNECTED, connections)
                subscriber.wait_until(lambda: len(subscriber.on("availability")) >= connections)  # noqa: B023
                proxy.drop_all()
                logs.wait_for(LOST, connections)
            subscriber.wait_until(lambda: bool(subscriber.on("event")))
        first = ["discovery", "state", "health", "availability"]
        assert names_in_order(subscriber)[:4] == first
        rest = [name for name in names_in_order(subscriber)[4:] if name in first]
        assert rest[:4] == first
    assert len(subscriber.payloads("discovery")) >= 2
    assert set(subscriber.payloads("state")) == {b"new"}
    assert names_in_order(subscriber).index("event") > 3
    assert publishing.publisher.reconnects >= 1


def test_publisher_kept_message_is_sent_and_last_one_stays(
    make_publishing: MakePublishing,
    broker: Mosquitto,
    subscriber: Subscriber,
    topic: str,
    logs: Logs,
) -> None:
    publishing = make_publishing(broker.port)
    with serving(publishing):
        logs.wait_for(CONNECTED)
        publishing.publisher.publish_retained(Message(f"{topic}/state", b"1", retain=True, qos=1))
        subscriber.wait_for("state", b"1")
        for number in range(100):
            publishing.publisher.publish_retained(
                Message(f"{topic}/state", b"%d" % number, retain=True, qos=1)
            )
        subscriber.wait_until(lambda: subscriber.payloads("state")[-1] == b"99")
    with subscribed(broker.port, topic) as late:
        late.wait_for("state", b"99")


@pytest.mark.usefixtures("_time_to_stop")
def test_publisher_birth_message_sends_all_state(
    make_publishing: MakePublishing,
    broker: Mosquitto,
    subscriber: Subscriber,
    topic: str,
    wait_for_subscriptions: Callable[[], None],
) -> None:
    publishing = make_publishing(
        broker.port,
        birth_topic=f"{topic}/birth",
        discovery=Message(f"{topic}/discovery", b"here", qos=1),
    )
    publishing.publisher.publish_retained(Message(f"{topic}/state", b"so", qos=1))
    with serving(publishing):
        subscriber.wait_for("state", b"so")
        wait_for_subscriptions()
        subscriber.publish("birth", b"offline")
        subscriber.publish("birth", b"online")
        subscriber.wait_for("state", b"so", b"so")
    subscriber.wait_for("availability", b"online", b"online", b"offline")
    assert subscriber.payloads("discovery") == [b"here", b"here"]


def test_publisher_without_results_is_offline(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber
) -> None:
    publishing = make_publishing(broker.port, stale_after_s=3)
    with serving(publishing):
        subscriber.wait_for("availability", b"online", b"offline")
        publishing.publisher(results(1)[0])
        subscriber.wait_for("availability", b"online", b"offline", b"online")


def test_publisher_paused_stays_online(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber
) -> None:
    with serving(make_publishing(broker.port, stale_after_s=0.3, is_paused=lambda: True)):
        subscriber.wait_for("availability", b"online")
        time.sleep(1)
        assert subscriber.payloads("availability") == [b"online"]


def test_publisher_blocking_returns_when_events_are_sent(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber
) -> None:
    publishing = make_publishing(broker.port, back_pressure="block")
    with serving(publishing):
        for one in results(5):
            publishing.publisher(with_event(one))
            assert publishing.depth == 0
        subscriber.wait_until(lambda: len(subscriber.on("event")) == 5)


def test_publisher_stalled_network_blocks_no_step(
    make_publishing: MakePublishing, broker: Mosquitto, logs: Logs
) -> None:
    with Proxy(broker.port) as proxy:
        publishing = make_publishing(proxy.port)
        with serving(publishing):
            logs.wait_for(CONNECTED)
            proxy.flowing.clear()
            slowest = 0.0
            for one in results(200):
                began = time.monotonic()
                publishing.publisher(with_event(large(one)))
                slowest = max(slowest, time.monotonic() - began)
            assert publishing.publisher.dropped > 0
            assert slowest < STOP_LIMIT_WITH_WAITS
            stopped = time.monotonic()
        assert time.monotonic() - stopped < STOP_LIMIT_WITH_WAITS


def test_publisher_unanswered_offline_leaves_will(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber, logs: Logs
) -> None:
    with Proxy(broker.port) as proxy:
        with serving(make_publishing(proxy.port)):
            subscriber.wait_for("availability", b"online")
            proxy.flowing.clear()
        proxy.drop_all()
        subscriber.wait_for("availability", b"online", b"offline")


def test_publisher_small_packet_limit_leaves_out_what_is_larger(
    make_publishing: MakePublishing, tmp_path: Path, topic: str, logs: Logs
) -> None:
    discovery = Message(f"{topic}/discovery", b"x" * 3600, retain=True, qos=1)
    with (
        Mosquitto(tmp_path, lines=("max_packet_size 2000",)) as broker,
        subscribed(broker.port, topic) as subscriber,
    ):
        publishing = make_publishing(broker.port, discovery=discovery)
        publishing.publisher.publish_retained(Message(f"{topic}/state", b"so", retain=True, qos=1))
        with serving(publishing):
            logs.wait_for(CONNECTED)
            for one in results(3):
                publishing.publisher(large(one))
            publishing.publisher(with_event(results(1)[0]))
            wait_for_depth(publishing, 0)
            subscriber.wait_until(lambda: bool(subscriber.on("event")))
            subscriber.wait_for("state", b"so")
    assert [record["topic"] for record in logs.of("message not sent")] == [
        f"{topic}/discovery",
        f"{topic}/faces",
    ]
    assert publishing.publisher.dropped == 3
    assert len(logs.of(CONNECTED)) == 1
    assert logs.of("broker has limits")[0]["max_packet_bytes"] == 2000


def test_publisher_size_limit_not_announced_stays_connected(
    make_publishing: MakePublishing, tmp_path: Path, topic: str, logs: Logs
) -> None:
    """mosquitto 2.0 acknowledges such a message with a code that is none of PUBACK's."""
    discovery = Message(f"{topic}/discovery", b"x" * 3600, retain=True, qos=1)
    with (
        Mosquitto(tmp_path, lines=("message_size_limit 2000",)) as broker,
        subscribed(broker.port, topic) as subscriber,
    ):
        publishing = make_publishing(broker.port, discovery=discovery)
        publishing.publisher.publish_retained(Message(f"{topic}/state", b"so", retain=True, qos=1))
        with serving(publishing):
            logs.wait_for("broker refuses messages")
            publishing.publisher(with_event(results(1)[0]))
            wait_for_depth(publishing, 0)
            subscriber.wait_for("state", b"so")
    (refusal,) = logs.of("broker refuses messages")
    assert refusal["topic"] == f"{topic}/discovery"
    assert "size" in str(refusal["reason"])
    assert len(logs.of(CONNECTED)) == 1


@pytest.mark.usefixtures("_time_to_stop")
@pytest.mark.parametrize("line", ["retain_available false", "max_qos 0"])
def test_publisher_broker_without_a_feature_gets_the_rest(
    make_publishing: MakePublishing, tmp_path: Path, topic: str, logs: Logs, line: str
) -> None:
    with Mosquitto(tmp_path, lines=(line,)) as broker:
        subscriber = Subscriber(broker.port, topic, qos=0)
        publishing = make_publishing(broker.port)
        publishing.publisher.publish_retained(Message(f"{topic}/state", b"so", retain=True, qos=1))
        with serving(publishing):
            subscriber.wait_for("state", b"so")
            publishing.publisher(with_event(results(1)[0]))
            subscriber.wait_until(lambda: bool(subscriber.on("event")))
            wait_for_depth(publishing, 0)
        subscriber.wait_for("availability", b"online", b"offline")
        subscriber.close()
    assert len(logs.of(CONNECTED)) == 1
    assert logs.warnings() == []


@pytest.mark.usefixtures("attempts")
def test_publisher_unstable_connection_stops_logging(
    make_publishing: MakePublishing, logs: Logs, attempts: Attempts
) -> None:
    with ScriptedBroker(CONNACK + b"\xe0\x02\x81\x00") as broker:  # DISCONNECT: malformed packet
        publishing = make_publishing(broker.port)
        with serving(publishing):
            attempts.wait_for(30)
    assert len(logs.records) <= 2 * (MAX_SHORT + 1)


class SetClock(SystemClock):
    """The system's, which a test can advance."""

    ahead_s = 0.0

    def monotonic(self) -> float:  # type: ignore[override]  # a static method
        return time.monotonic() + self.ahead_s


def test_publisher_lasting_loss_of_unstable_connection_is_logged(
    make_publishing: MakePublishing, broker: Mosquitto, logs: Logs, attempts: Attempts
) -> None:
    clock = SetClock()
    with serving(make_publishing(broker.port, clock=clock)):
        for count in range(1, MAX_SHORT + 2):
            logs.wait_for(CONNECTED, count)
            broker.stop()
            if count <= MAX_SHORT:
                logs.wait_for(LOST, count)
                broker.start()
        attempts.wait_for(2)
        assert len(logs.of(LOST)) == MAX_SHORT
        clock.ahead_s += LASTING_S
        logs.wait_for(LOST, MAX_SHORT + 1)
        attempts.wait_for(2)
        assert len(logs.of(LOST)) == MAX_SHORT + 1
        broker.start()
        logs.wait_for(CONNECTED, MAX_SHORT + 2)


class Pause:
    """A privacy switch that keeps how it was set."""

    def __init__(self) -> None:
        self.positions: list[bool] = []

    @property
    def paused(self) -> bool:
        return bool(self.positions and self.positions[-1])

    def set(self, paused: bool) -> bool:  # noqa: FBT001
        self.positions.append(paused)
        return True


def test_publisher_flood_of_commands_is_cut_off(
    make_publishing: MakePublishing,
    broker: Mosquitto,
    topic: str,
    logs: Logs,
    wait_for_subscriptions: Callable[[], None],
) -> None:
    pause = Pause()
    commands = PauseCommands(f"{topic}/set/paused", pause, lambda: True, lambda: None)
    publishing = make_publishing(broker.port, commands=commands)
    with subscribed(broker.port, topic) as other, serving(publishing), in_service(commands):
        wait_for_subscriptions()
        for number in range(10_000):
            other.client.publish(f"{topic}/set/paused", (b"OFF", b"ON")[number % 2], qos=number % 2)
        logs.wait_for("too many messages, unsubscribing")
        publishing.publisher(with_event(results(1)[0]))
        other.wait_until(lambda: bool(other.on("event")))
    assert len(pause.positions) < 50
    assert len(logs.of("too many messages, unsubscribing")) == 1


def test_publisher_acknowledges_in_the_order_of_arrival(
    make_publishing: MakePublishing, topic: str
) -> None:
    is_closed = threading.Event()
    commands = PauseCommands(f"{topic}/set/paused", Pause(), is_closed.is_set, lambda: None)
    packets = publish(f"{topic}/set/paused", b"ON", 5) + publish(f"{topic}/birth", b"online", 3)
    with ScriptedBroker(after_subscribe=packets) as broker:
        publishing = make_publishing(broker.port, commands=commands, birth_topic=f"{topic}/birth")
        with serving(publishing), in_service(commands):
            broker.wait_until(
                lambda: len(broker.on("availability")) == 2
            )  # after the birth message
            assert broker.acknowledged == []
            is_closed.set()
            broker.wait_until(lambda: broker.acknowledged == [5, 3])


@pytest.mark.usefixtures("_time_to_stop")
def test_publisher_flood_of_birth_messages_is_answered_once(
    make_publishing: MakePublishing,
    broker: Mosquitto,
    subscriber: Subscriber,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    wait_for_subscriptions: Callable[[], None],
) -> None:
    # A busy machine takes longer than the real interval for the flood.
    monkeypatch.setattr("edge_daemon.publishing.commands.BIRTH_INTERVAL_S", 10 * PATIENCE)
    publishing = make_publishing(broker.port, birth_topic=f"{topic}/birth")
    publishing.publisher.publish_retained(Message(f"{topic}/state", b"so", qos=1))
    with serving(publishing):
        subscriber.wait_for("state", b"so")
        wait_for_subscriptions()
        for _ in range(90):
            subscriber.publish("birth", b"online")
        subscriber.wait_for("state", b"so", b"so")
    # What it sends at its end comes after all that it has sent before.
    subscriber.wait_for("availability", b"online", b"online", b"offline")
    assert subscriber.payloads("state") == [b"so", b"so"]


@pytest.mark.usefixtures("attempts")
def test_publisher_stored_large_command_is_left_unsubscribed(
    make_publishing: MakePublishing, broker: Mosquitto, topic: str, logs: Logs
) -> None:
    """With MQTT 3.1.1, the broker sends a stored message at every subscription."""
    commands = PauseCommands(f"{topic}/set/paused", Pause(), lambda: True, lambda: None)
    with subscribed(broker.port, topic) as other:
        other.publish("set/paused", b"x" * (2 * MAX_RECEIVED_BYTES), retain=True)
        target = Broker("127.0.0.1", broker.port, protocol="3.1.1", session_expiry=60)
        publishing = make_publishing(0, broker=target, commands=commands)
        with serving(publishing):
            logs.wait_for(CONNECTED, 3)
            publishing.publisher(with_event(results(1)[0]))
            other.wait_until(lambda: bool(other.on("event")))
            time.sleep(0.5)
    assert len(logs.of(CONNECTED)) == 3


def test_publisher_hanging_disk_silences_nothing(
    make_publishing: MakePublishing,
    broker: Mosquitto,
    subscriber: Subscriber,
    topic: str,
    logs: Logs,
) -> None:
    disk = Disk()
    publishing = make_publishing(broker.port, open_store=disk.open)
    with serving(publishing):
        logs.wait_for(CONNECTED)
        disk.works.clear()
        publishing.publisher(with_event(results(1)[0]))
        assert disk.hangs.wait(PATIENCE)
        publishing.publisher.publish_retained(Message(f"{topic}/state", b"so", qos=1))
        for one in results(5):
            publishing.publisher(with_event(one))
        subscriber.wait_until(lambda: len(subscriber.on("faces")) == 6)
        subscriber.wait_for("state", b"so")
        subscriber.wait_until(lambda: len(subscriber.on("event")) == 6)
        assert not publishing.publisher.queued_events().durable
        assert len(logs.of(NOT_DURABLE)) == 1
        disk.works.set()
        eventually(lambda: publishing.publisher.queued_events().durable)
        wait_for_depth(publishing, 0)
