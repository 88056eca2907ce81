import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from payloads import BASE, encoded, event, faces, health, message, scored, state

from edge_daemon.commands.watch.consumer import (
    FACES_FRESH,
    Consumer,
    Device,
    RecentIds,
    ValidMessage,
)
from edge_daemon.publishing.messages import Availability, Message, MessageKind, topic_filters
from edge_daemon.publishing.subscription import MAX_DEVICES
from edge_daemon.schema import SourceState


class Reading:
    """A consumer with its clock and the notices that it reports."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.consumer = Consumer(BASE, self.notices.append)
        self.now = 1000.0

    def take(self, *messages: Message) -> list[ValidMessage | None]:
        return [self.consumer.take(one, self.now) for one in messages]

    def events(self, *sequences: int, device: str = "hall") -> list[bool]:
        """Whether each of these events was accepted."""
        results = self.take(*(message(device, "event", event(number)) for number in sequences))
        return [accepted is not None for accepted in results]

    def device(self, name: str = "hall") -> Device:
        return self.consumer.devices[name]


@pytest.fixture
def reading() -> Reading:
    return Reading()


def changed(content: bytes, **fields: object) -> bytes:
    return json.dumps(json.loads(content) | fields).encode()


def test_consumer_stores_each_kind_by_device(reading: Reading) -> None:
    results = reading.take(
        message("hall", "availability", b"online", retain=True),
        message("hall", "faces", faces(scored(1, "happy", 0.8))),
        message("hall", "event", event(1)),
        message("hall", "state", state(), retain=True),
        message("hall", "health", health(), retain=True),
        message("porch", "availability", b"offline", retain=True),
    )
    assert [one.kind for one in results if one] == [*MessageKind, MessageKind.AVAILABILITY]
    hall = reading.device()
    assert hall.availability is Availability.ONLINE
    assert hall.faces is not None
    assert hall.faces.faces[0].emotion == "happy"
    assert hall.state == state()
    assert hall.health == health()
    assert [(one.device, one.event) for one in reading.consumer.events] == [("hall", event(1))]
    assert reading.device("porch").availability is Availability.OFFLINE
    assert reading.notices == []


def test_consumer_accepted_message_has_topic_kind_and_content(reading: Reading) -> None:
    payload = encoded(state())
    (accepted,) = reading.take(Message(f"{BASE}/hall/state", payload, retain=True))
    assert accepted == ValidMessage(
        f"{BASE}/hall/state", "hall", MessageKind.STATE, retained=True, content=json.loads(payload)
    )


@pytest.mark.parametrize(
    "topic",
    [
        "hall/set/paused",
        "hall/unknown",
        "hall",
        "",
        "hall/sub/faces",
        "ha ll/faces",
        "\x1b[2J/faces",
    ],
)
def test_consumer_other_topics_are_ignored(reading: Reading, topic: str) -> None:
    content = encoded(faces())
    assert reading.take(Message(f"{BASE}/{topic}", content)) == [None]
    assert reading.take(Message(f"elsewhere/{BASE}/hall/faces", content)) == [None]
    assert reading.consumer.devices == {}
    assert reading.notices == []


def test_consumer_devices_are_limited_with_one_notice(reading: Reading) -> None:
    names = [f"fake-{number:04}" for number in range(MAX_DEVICES + 50)]
    for name in names:
        reading.events(1, 3, device=name)
        reading.take(message(name, "health", b"{"))
    assert list(reading.consumer.devices) == names[:MAX_DEVICES]
    about_all = [notice for notice in reading.notices if not notice.startswith("fake-")]
    assert len(about_all) == 1
    assert str(MAX_DEVICES) in about_all[0]
    assert len(reading.notices) == 1 + 2 * MAX_DEVICES
    assert reading.events(4, device=names[0]) == [True]


def test_consumer_beyond_the_limit_passes_valid_messages_on(reading: Reading) -> None:
    consumer = Consumer(BASE, reading.notices.append, max_devices=1)
    online = [message(name, "availability", b"online") for name in ("hall", "porch")]
    accepted = [consumer.take(one, reading.now) for one in online]
    assert [one.device for one in accepted if one is not None] == ["hall", "porch"]
    assert consumer.take(message("porch", "availability", b"maybe"), reading.now) is None
    assert list(consumer.devices) == ["hall"]


def test_consumer_empty_retained_message_is_ignored(reading: Reading) -> None:
    assert reading.take(message("hall", "state", b"")) == [None]
    assert reading.notices == []


def test_consumer_duplicate_event_is_reported_once(reading: Reading) -> None:
    assert reading.events(1, 2, 3, 2, 3, 4) == [True, True, True, False, False, True]
    assert reading.device().duplicates == 2
    assert reading.notices == []


def test_consumer_counts_events_by_device(reading: Reading) -> None:
    assert reading.events(7, 8) == [True, True]
    assert reading.events(1, 2, device="porch") == [True, True]
    assert reading.notices == []


def test_consumer_sequence_gap_is_reported_with_its_numbers(reading: Reading) -> None:
    reading.events(5, 6, 9, 11)
    assert reading.notices == ["hall: events 7 to 8 missing", "hall: event 10 missing"]
    assert reading.device().missing == 3


def test_consumer_first_event_may_have_any_number(reading: Reading) -> None:
    reading.events(4711)
    assert reading.notices == []


def test_consumer_sequence_restart_is_reported_and_followed(reading: Reading) -> None:
    reading.events(40, 41)
    again = event(1, event_id=UUID(int=1))
    assert reading.take(message("hall", "event", again)) != [None]
    reading.events(2)
    assert reading.notices == ["hall: event count restarted at 1"]
    assert reading.device().missing == 0


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 10))
def test_recent_ids_recognise_ids_up_to_their_limit(numbers: list[int], limit: int) -> None:
    ids, order = RecentIds(limit), list[int]()
    for number in numbers:
        assert ids.add(UUID(int=number)) == (number not in order[-limit:])
        if number not in order[-limit:]:
            order.append(number)
        assert len(ids._known) == len(ids._order) <= limit


@pytest.mark.parametrize(
    ("kind", "payload", "why"),
    [
        ("availability", b"on", "must be online or offline"),
        ("availability", b"\xff", "must be online or offline"),
        ("faces", b"\xff\xfe", "not JSON"),
        ("faces", b"{", "not JSON"),
        ("faces", b"[" * 100_000, "not JSON"),
        ("faces", changed(encoded(faces()), latency_ms=float("nan")), "not JSON"),
        (
            "health",
            encoded(health()).replace(b"93784.0", b"1e999"),
            "uptime_s: must be a finite number",
        ),
        ("faces", b"[1]", "not an object with a schema number"),
        ("state", b"{}", "not an object with a schema number"),
        ("state", b'{"schema": 1}', "time: missing"),
        ("event", changed(encoded(event(1)), sequence=0), "sequence: must be greater"),
        ("health", changed(encoded(health()), event_queue=None), "event_queue: must be a section"),
        ("state", changed(encoded(state()), schema=2), "unknown schema 2"),
        ("state", b'{"schema": 2}', "unknown schema 2"),
    ],
)
def test_consumer_schema_violation_is_counted_and_reported_once(
    reading: Reading, kind: str, payload: bytes, why: str
) -> None:
    assert reading.take(*[message("hall", kind, payload)] * 3) == [None] * 3
    (line,) = reading.notices
    assert line.startswith(f"hall: {kind} rejected: {why}")
    assert "\n" not in line
    assert reading.device().refused == 3
    assert reading.events(1) == [True]


def test_consumer_unknown_fields_are_accepted(reading: Reading) -> None:
    content = json.loads(encoded(faces(scored(1, "happy", 0.8))))
    content["novelty"] = content["faces"][0]["novelty"] = 1
    (accepted,) = reading.take(message("hall", "faces", json.dumps(content).encode()))
    assert accepted is not None
    assert accepted.content == content
    assert reading.notices == []


def test_consumer_faces_expire_with_the_device(reading: Reading) -> None:
    seen = scored(1, "happy", 0.8)
    reading.take(message("hall", "availability", b"online"), message("hall", "faces", faces(seen)))
    hall, now = reading.device(), reading.now
    assert hall.faces_now(now + FACES_FRESH) == (seen,)
    assert hall.faces_now(now + FACES_FRESH + 0.1) == ()
    reading.take(message("hall", "state", state(paused=True)))
    assert hall.faces_now(now) == ()
    reading.take(message("hall", "state", state()), message("hall", "availability", b"offline"))
    assert hall.faces_now(now) == ()


def test_consumer_pause_is_read_from_health_without_state(reading: Reading) -> None:
    reading.take(message("hall", "health", health(SourceState.PAUSED)))
    assert reading.device().paused


def test_consumer_summary_counts_problems(reading: Reading) -> None:
    reading.events(1, 2)
    assert reading.consumer.summary() == ""
    reading.events(2, 5)
    reading.take(message("porch", "faces", b"{"))
    assert reading.consumer.summary() == (
        "messages rejected: 1, duplicate events: 1, missing events: 2"
    )


def test_filters_match_all_devices_or_the_named_ones() -> None:
    assert topic_filters("a/b", []) == [f"a/b/+/{kind}" for kind in MessageKind]
    assert topic_filters("base", ["hall", "porch"]) == [
        f"base/{name}/{kind}" for name in ("hall", "porch") for kind in MessageKind
    ]
