"""How events leave the outbox, with a real broker at the other end."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import event
from publishing.broker import Mosquitto, Subscriber, subscribed
from publishing.fixtures import CONNECTED, LOST, MakePublisher, Told, outbox_in, serving
from publishing.proxy import Proxy
from running import eventually

from edge_daemon.publishing.event_queue import Outbox

pytestmark = pytest.mark.usefixtures("attempts")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with outbox_in(tmp_path / "outbox") as opened:
        yield opened


def fill(outbox: Outbox, count: int) -> None:
    for number in range(count):
        outbox.append(event(number=number), 1.0)


def sequences(subscriber: Subscriber) -> list[int]:
    return [json.loads(payload)["sequence"] for payload in subscriber.payloads("event")]


def without_duplicates(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def test_what_waited_is_sent_in_order_and_forgotten(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, outbox: Outbox
) -> None:
    fill(outbox, 500)
    with serving(make_publisher(broker.port, outbox=outbox)):
        subscriber.wait_until(lambda: len(subscriber.on("event")) >= 500)
        fill(outbox, 3)
        subscriber.wait_until(lambda: len(subscriber.on("event")) >= 503)
        subscriber.flush()
    assert sequences(subscriber) == list(range(1, 504))
    assert {(message.qos, message.retain) for message in subscriber.on("event")} == {(1, False)}
    assert outbox.depth == 0


def test_nobody_who_hears_means_not_yet(
    make_publisher: MakePublisher, broker: Mosquitto, outbox: Outbox, topic: str, told: Told
) -> None:
    """After a broker's restart its clients come back in any order."""
    fill(outbox, 50)
    with serving(make_publisher(broker.port, outbox=outbox)):
        told.wait_for(CONNECTED)
        time.sleep(1.5)
        assert outbox.depth == 50
        with subscribed(broker.port, topic) as late:
            late.wait_until(lambda: len(late.on("event")) >= 50)
            late.flush()
            assert sequences(late) == list(range(1, 51))


def test_nobody_who_hears_for_long_means_that_nobody_wants_to(
    make_publisher: MakePublisher,
    broker: Mosquitto,
    outbox: Outbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_daemon.publishing.sender.RETURN_OF_LISTENERS", 0.5)
    fill(outbox, 50)
    with serving(make_publisher(broker.port, outbox=outbox)):
        eventually(lambda: outbox.depth == 0)


@pytest.fixture
def _soon_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.publishing.sender.REFUSAL_INTERVAL", 0.5)


@pytest.mark.usefixtures("_soon_after_a_refusal")
def test_refused_events_wait_for_the_right_to_be_published(
    make_publisher: MakePublisher, tmp_path: Path, outbox: Outbox, topic: str, told: Told
) -> None:
    fill(outbox, 50)
    rights = ("topic read #", f"topic write {topic}/availability", f"topic write {topic}/flush")
    with Mosquitto(tmp_path, rights=rights) as broker, subscribed(broker.port, topic) as subscriber:
        with serving(make_publisher(broker.port, outbox=outbox)):
            refusal = told.wait_for("refuses messages")
            time.sleep(1.2)
            assert outbox.depth == 50
            broker.grant("topic readwrite #")
            told.wait_for("takes messages again")
            subscriber.wait_until(lambda: len(subscriber.on("event")) >= 50)
        subscriber.flush()
    assert sequences(subscriber) == list(range(1, 51))
    assert (refusal["topic"], refusal["reason"]) == (f"{topic}/event", "Not authorized")
    assert len(told.of("refuses messages")) == 1


def test_broken_connections_lose_nothing_and_keep_the_order(
    make_publisher: MakePublisher,
    broker: Mosquitto,
    subscriber: Subscriber,
    outbox: Outbox,
    told: Told,
) -> None:
    with Proxy(broker.port) as proxy:
        with serving(make_publisher(proxy.port, outbox=outbox)):
            for losses in itertools.count(1):
                told.wait_for(CONNECTED, losses)
                fill(outbox, 40)
                if losses == 4:
                    break
                proxy.drop_all()
                told.wait_for(LOST, losses)
            subscriber.wait_until(lambda: 160 in sequences(subscriber))
        subscriber.flush()
    assert without_duplicates(sequences(subscriber)) == list(range(1, 161))


def test_stalled_broker_holds_up_no_append(
    make_publisher: MakePublisher,
    broker: Mosquitto,
    subscriber: Subscriber,
    outbox: Outbox,
    told: Told,
) -> None:
    with Proxy(broker.port) as proxy:
        with serving(make_publisher(proxy.port, outbox=outbox)):
            told.wait_for(CONNECTED)
            proxy.flowing.clear()
            began = time.monotonic()
            fill(outbox, 500)
            assert time.monotonic() - began < 5
            time.sleep(0.5)
            assert outbox.depth == 500
            proxy.flowing.set()
            subscriber.wait_until(lambda: 500 in sequences(subscriber))
        subscriber.flush()
    assert without_duplicates(sequences(subscriber)) == list(range(1, 501))


def test_events_of_one_run_that_were_not_sent_are_sent_by_the_next(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    with outbox_in(tmp_path / "state") as outbox:
        fill(outbox, 10)
    with outbox_in(tmp_path / "state") as outbox:
        publisher = make_publisher(broker.port, outbox=outbox)
        with serving(publisher):
            fill(outbox, 5)
            subscriber.wait_until(lambda: 15 in sequences(subscriber))
    assert sequences(subscriber) == list(range(1, 16))


def test_appends_from_another_thread_are_sent_as_they_come(
    make_publisher: MakePublisher, broker: Mosquitto, subscriber: Subscriber, outbox: Outbox
) -> None:
    with serving(make_publisher(broker.port, outbox=outbox)):
        feeder = threading.Thread(target=fill, args=(outbox, 1000))
        feeder.start()
        subscriber.wait_until(lambda: len(subscriber.on("event")) >= 1000)
        feeder.join()
    assert sequences(subscriber) == list(range(1, 1001))
