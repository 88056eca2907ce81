"""Events from the queue to the broker and its subscribers."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import event, result
from conftest import FakeClock
from publishing.broker import Mosquitto, Subscriber, subscribed
from publishing.fixtures import (
    CONNECTED,
    LOST,
    Logs,
    MakePublishing,
    Publishing,
    events_in,
    serving,
    wait_for_depth,
)
from publishing.proxy import Proxy
from publishing.scripted import Published, ScriptedBroker, connack
from running import eventually

from edge_daemon.publishing.event_sender import (
    MAX_REFUSALS,
    MIN_INTERVAL_S,
    REFUSAL_INTERVAL_S,
    EventSender,
)
from edge_daemon.publishing.event_writer import QueueLimits
from edge_daemon.publishing.messages import Acknowledged, PublishOutcome
from edge_daemon.publishing.mqtt import ACK_TIMEOUT_S

pytestmark = pytest.mark.usefixtures("attempts")

DROPPED = "event refused, dropping it"


def fill(publishing: Publishing, count: int) -> None:
    for number in range(count):
        publishing.events.queue.append(event(number=number), 1.0)


def save(publishing: Publishing, count: int) -> None:
    fill(publishing, count)
    publishing.events.writer.step()


def sequences(subscriber: Subscriber) -> list[int]:
    return [json.loads(payload)["sequence"] for payload in subscriber.payloads("event")]


def accepted(broker: ScriptedBroker, refused: Callable[[Published], bool]) -> list[int]:
    """Sequence numbers that the broker has accepted, in order."""
    return [
        json.loads(message.payload)["sequence"]
        for message in broker.on("/event")
        if not refused(message)
    ]


def without_duplicates(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def test_sender_queued_events_are_sent_in_order(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber
) -> None:
    publishing = make_publishing(broker.port)
    save(publishing, 500)
    with serving(publishing):
        subscriber.wait_until(lambda: len(subscriber.on("event")) >= 500)
        fill(publishing, 3)
        subscriber.wait_until(lambda: len(subscriber.on("event")) >= 503)
        subscriber.flush()
        wait_for_depth(publishing, 0)
    assert sequences(subscriber) == list(range(1, 504))
    assert {(message.qos, message.retain) for message in subscriber.on("event")} == {(1, False)}


def test_sender_events_without_subscriber_wait_for_one(
    make_publishing: MakePublishing, broker: Mosquitto, topic: str, logs: Logs
) -> None:
    """After a restart of the broker its clients reconnect in any order."""
    publishing = make_publishing(broker.port)
    save(publishing, 50)
    with serving(publishing):
        logs.wait_for(CONNECTED)
        time.sleep(1.5)
        assert publishing.depth == 50
        with subscribed(broker.port, topic) as late:
            late.wait_until(lambda: len(late.on("event")) >= 50)
            late.flush()
            assert sequences(late) == list(range(1, 51))


def test_sender_intermittent_subscriber_gets_order(
    make_publishing: MakePublishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first half minute, the broker has no subscriber for every third message."""
    monkeypatch.setattr("edge_daemon.publishing.event_sender.NO_SUBSCRIBER_INTERVAL_S", 0.01)
    count = itertools.count(1)
    responses: dict[int, int] = {}

    def respond(message: Published) -> int:
        if not message.topic.endswith("/event"):
            return 0
        responses[len(responses)] = 0x10 if next(count) % 3 == 0 else 0
        return responses[len(responses) - 1]

    with ScriptedBroker(respond=respond) as broker:
        publishing = make_publishing(broker.port)
        save(publishing, 40)
        with serving(publishing):
            wait_for_depth(publishing, 0)
        delivered = [
            json.loads(message.payload)["sequence"]
            for number, message in enumerate(broker.on("/event"))
            if responses[number] == 0
        ]
    assert delivered == list(range(1, 41))


def test_sender_without_subscriber_for_long_delivers(
    make_publishing: MakePublishing, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.publishing.event_sender.SUBSCRIBER_GRACE_S", 0.5)
    publishing = make_publishing(broker.port)
    save(publishing, 50)
    with serving(publishing):
        wait_for_depth(publishing, 0)


@pytest.fixture
def _soon_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.publishing.event_sender.REFUSAL_INTERVAL_S", 0.05)


@pytest.mark.usefixtures("_soon_after_a_refusal")
@pytest.mark.parametrize("code", [0x87, 0x97])
def test_sender_general_refusal_keeps_all_events_in_order(
    make_publishing: MakePublishing, code: int
) -> None:
    """No rights, or a quota: the broker refuses every fourth message, however often."""
    numbers = itertools.count(1)
    refused: set[int] = set()

    def respond(message: Published) -> int:
        if message.topic.endswith("/event") and next(numbers) % 4 in {0, 1}:
            refused.add(message.packet_id)
            return code
        return 0

    with ScriptedBroker(respond=respond) as broker:
        publishing = make_publishing(broker.port)
        save(publishing, 12)
        with serving(publishing):
            wait_for_depth(publishing, 0)
        assert accepted(broker, lambda message: message.packet_id in refused) == list(range(1, 13))
        assert publishing.events.queue.status().dropped == 0


@pytest.mark.usefixtures("_soon_after_a_refusal")
def test_sender_event_refused_repeatedly_is_dropped(
    make_publishing: MakePublishing, logs: Logs
) -> None:
    def is_refused(message: Published) -> bool:
        return message.topic.endswith("/event") and b'"sequence":3,' in message.payload

    with ScriptedBroker(respond=lambda message: 0x99 if is_refused(message) else 0) as broker:
        publishing = make_publishing(broker.port)
        save(publishing, 6)
        with serving(publishing):
            wait_for_depth(publishing, 0)
        assert accepted(broker, is_refused) == [1, 2, 4, 5, 6]
        assert len(broker.on("/event")) == 5 + 5
    assert publishing.events.queue.status().dropped == 1
    (record,) = logs.of(DROPPED)
    assert record["sequence"] == 3


def test_sender_dropped_head_leaves_no_refusals_to_the_next(
    tmp_path: Path, clock: FakeClock
) -> None:
    packet_ids = itertools.count(1)
    connection: Any = SimpleNamespace(publish=lambda _: next(packet_ids))
    with events_in(tmp_path, QueueLimits(2, 1e9), clock) as events:
        sender = EventSender(events.queue, "event", clock)
        events.add(1, 2)
        for packet_id in range(1, MAX_REFUSALS + 1):
            if packet_id == MAX_REFUSALS:
                events.add(3)
                events.step()
            clock.seconds += REFUSAL_INTERVAL_S
            sender.send(connection)
            sender.on_acknowledged(
                Acknowledged(packet_id, "event", PublishOutcome.REFUSED, 0x80, "unspecified error")
            )
        assert events.deliver() == [2, 3]


@pytest.mark.usefixtures("_soon_after_a_refusal")
def test_sender_without_right_waits_for_it(
    make_publishing: MakePublishing,
    tmp_path_factory: pytest.TempPathFactory,
    topic: str,
    logs: Logs,
) -> None:
    rights = ("topic read #", f"topic write {topic}/availability", f"topic write {topic}/flush")
    folder = tmp_path_factory.mktemp("broker")
    with Mosquitto(folder, rights=rights) as broker, subscribed(broker.port, topic) as subscriber:
        publishing = make_publishing(broker.port)
        save(publishing, 50)
        with serving(publishing):
            refusal = logs.wait_for("broker refuses messages")
            time.sleep(1.2)
            assert publishing.depth == 50
            broker.grant("topic readwrite #")
            logs.wait_for("broker accepts messages again")
            subscriber.wait_until(lambda: len(subscriber.on("event")) >= 50)
        subscriber.flush()
    assert sequences(subscriber) == list(range(1, 51))
    assert refusal["topic"] == f"{topic}/event"
    assert len(logs.of("broker refuses messages")) == 1


def test_sender_event_too_large_for_broker_is_dropped(
    make_publishing: MakePublishing, logs: Logs
) -> None:
    limit = connack(b"\x27\x00\x00\x01\x00")  # 256 bytes
    with ScriptedBroker(limit) as broker:
        publishing = make_publishing(broker.port)
        save(publishing, 2)
        with serving(publishing):
            wait_for_depth(publishing, 0)
    assert broker.on("/event") == []
    assert publishing.events.queue.status().dropped == 2
    assert len(logs.of(DROPPED)) == 2


def test_sender_broker_without_qos_1_gets_events_once(make_publishing: MakePublishing) -> None:
    with ScriptedBroker(connack(b"\x24\x00")) as broker:
        publishing = make_publishing(broker.port)
        save(publishing, 5)
        with serving(publishing):
            wait_for_depth(publishing, 0)
            broker.wait_until(lambda: len(broker.on("/event")) == 5)
        assert accepted(broker, lambda _: False) == [1, 2, 3, 4, 5]
        assert {message.qos for message in broker.published} == {0}


def test_sender_missing_acknowledgement_reconnects(
    make_publishing: MakePublishing, clock: FakeClock, logs: Logs
) -> None:
    def respond(message: Published) -> int | None:
        is_lost = message.topic.endswith("/event") and message.connection == 1
        return None if is_lost else 0

    with ScriptedBroker(respond=respond) as broker:
        publishing = make_publishing(broker.port, clock=clock)
        save(publishing, 3)
        with serving(publishing):
            broker.wait_until(lambda: len(broker.on("/event")) == 1)
            # The time of sending is noted after that.
            eventually(lambda: publishing.publisher._sender._in_flight is not None)
            clock.seconds += ACK_TIMEOUT_S + 1

            def is_sent() -> bool:
                clock.seconds += MIN_INTERVAL_S  # less than ACK_TIMEOUT_S in all polls
                return publishing.depth == 0

            eventually(is_sent)
            connections = [message.connection for message in broker.on("/event")]
    assert connections == [1, 2, 2, 2]
    assert len(logs.of(LOST)) == 1


def test_sender_lost_event_is_not_confirmed_by_results(make_publishing: MakePublishing) -> None:
    """Packet identifiers wrap around, and paho also uses them for messages with QoS 0."""

    def respond(message: Published) -> int | None:
        return None if message.topic.endswith("/event") else 0

    with ScriptedBroker(respond=respond) as broker:
        publishing = make_publishing(broker.port)
        save(publishing, 1)
        with serving(publishing):
            broker.wait_until(lambda: len(broker.on("/event")) == 1)
            connection = publishing.publisher._client.connection
            assert connection is not None
            connection._client._last_mid = broker.on("/event")[0].packet_id - 2
            for number in range(5):
                publishing.publisher(result(float(number), {}))
            broker.wait_until(lambda: len(broker.on("/faces")) == 5)
            time.sleep(0.3)
            assert publishing.depth == 1


def test_sender_broken_connections_keep_order_and_events(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber
) -> None:
    with Proxy(broker.port) as proxy:
        publishing = make_publishing(proxy.port)
        with serving(publishing):
            eventually(lambda: publishing.publisher.connected)
            for losses in range(1, 4):
                fill(publishing, 40)
                subscriber.wait_until(lambda: len(subscriber.on("event")) > 40 * (losses - 1))  # noqa: B023
                proxy.drop_all()  # while most of the 40 wait for their turn
                # Without a connection for so short a time that polling could miss it.
                eventually(lambda losses=losses: publishing.publisher.reconnects >= losses)
            fill(publishing, 40)
            subscriber.wait_until(lambda: 160 in sequences(subscriber))
        subscriber.flush()
    assert without_duplicates(sequences(subscriber)) == list(range(1, 161))


def test_sender_stalled_broker_blocks_no_append(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber, logs: Logs
) -> None:
    with Proxy(broker.port) as proxy:
        publishing = make_publishing(proxy.port)
        with serving(publishing):
            logs.wait_for(CONNECTED)
            proxy.flowing.clear()
            began = time.monotonic()
            fill(publishing, 500)
            assert time.monotonic() - began < 5
            time.sleep(0.5)
            assert publishing.depth == 500
            proxy.flowing.set()
            subscriber.wait_until(lambda: 500 in sequences(subscriber))
        subscriber.flush()
    assert without_duplicates(sequences(subscriber)) == list(range(1, 501))


def test_sender_events_from_another_thread_are_sent_as_they_come(
    make_publishing: MakePublishing, broker: Mosquitto, subscriber: Subscriber
) -> None:
    publishing = make_publishing(broker.port)
    with serving(publishing):
        feeder = threading.Thread(target=fill, args=(publishing, 900))
        feeder.start()
        subscriber.wait_until(lambda: len(subscriber.on("event")) >= 900)
        feeder.join()
    assert sequences(subscriber) == list(range(1, 901))
