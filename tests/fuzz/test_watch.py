"""Arbitrary messages of other devices, as the input of `edge-daemon watch`."""

import io
import json
import time
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from fuzz.generated import many
from hypothesis import example, given
from hypothesis import strategies as st
from payloads import BASE, NOON, event, faces, health, scored, state, unscored
from pydantic_core import to_json
from rich.console import Console
from rich.screen import Screen

from edge_daemon.commands.watch import _line
from edge_daemon.commands.watch.consumer import Consumer
from edge_daemon.commands.watch.table import Notice, View
from edge_daemon.publishing.messages import Message

GOOD: dict[str, dict[str, Any]] = {
    kind: json.loads(content.model_dump_json(by_alias=True))
    for kind, content in {
        "faces": faces(scored(1, "happy", 0.8), unscored(2)),
        "event": event(1),
        "state": state(),
        "health": health(),
    }.items()
}

TIME_OF_EVENT = sorted(GOOD["event"]).index("time")

odd = st.sampled_from(
    [
        *(None, True, 0, -1, 1e308, -1e308, 10**30, -(10**30), 0.5),
        *("", "x", "a\nb", "\x1b[2J", "\0", "x" * 5000, "happy", "left", "online", "\u202e"),
        *("9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"),
        *("9999-12-31T23:59:59-14:00", "12:00", "1e999", [], {}, [[]], {"p50": 1e308, "p95": -1}),
    ]
) | st.text(max_size=6)

topics = st.sampled_from(
    [
        *(f"{BASE}/porch/{kind}" for kind in ("availability", "faces", "event", "state", "health")),
        *(f"{BASE}/porch/{rest}" for rest in ("", "set/paused", "faces/x", "FACES")),
        *(f"{BASE}//faces", f"{BASE}/a b/faces", f"{BASE}/\x1b/faces", "other/porch/faces", BASE),
    ]
)


@pytest.fixture(params=["WEST+12", "EAST-14"], autouse=True)
def _at_an_edge_of_the_day(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The time zone of this machine, in which times are printed."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def drawn(fleet: Consumer, notices: list[str]) -> str:
    """The text on the screen."""
    view = View(
        title="watched",
        problem=None,
        devices=list(fleet.devices.values()),
        events=list(fleet.events),
        totals=fleet.totals,
        notices=[Notice(NOON, text) for text in notices],
        at=datetime.now(UTC),
        now=0.0,
    )
    console = Console(width=160, height=40, record=True, file=io.StringIO())
    console.print(Screen(view))
    return console.export_text()


def take(*messages: Message) -> None:
    """Assert that messages are accepted or rejected, reported at most once, and printable."""
    notices: list[str] = []
    fleet = Consumer(BASE, notices.append)
    for message in messages * 2:
        accepted = fleet.take(message, 0.0)
        if accepted is not None:
            (line,) = _line(accepted).splitlines()
            json.loads(line)
    assert len([line for line in notices if "rejected" in line]) <= len(messages)
    assert all(line.isprintable() for line in drawn(fleet, notices).splitlines())


@many(60)
@given(st.lists(st.builds(Message, topics, st.binary(max_size=60)), min_size=1, max_size=3))
@example([Message(f"{BASE}/porch/faces", b"[" * 100_000)])
@example([Message(f"{BASE}/porch/faces", b'{"schema": 1' + b"0" * 100_000 + b"}")])
@example([Message(f"{BASE}/porch/faces", b'{"schema": 1, "time": "\\ud800"}')])
def test_any_payload_on_any_topic(messages: list[Message]) -> None:
    take(*messages)


@many(120)
@example(kind="event", changes={TIME_OF_EVENT: "9999-12-31T23:59:59Z"})
@example(kind="event", changes={TIME_OF_EVENT: "0001-01-01T00:00:00Z"})
@example(kind="health", changes={sorted(GOOD["health"]).index("uptime_s"): 1e308})
@given(
    kind=st.sampled_from(sorted(GOOD)),
    changes=st.dictionaries(st.integers(0, 40), odd, min_size=1, max_size=3),
)
def test_any_value_in_a_message(kind: str, changes: dict[int, object]) -> None:
    content = deepcopy(GOOD[kind])
    for number, value in changes.items():
        key = sorted(content)[number % len(content)]
        inner = content[key]
        if number % 2 and isinstance(inner, dict) and inner:
            inner[sorted(inner)[number % len(inner)]] = value
        elif number % 2 and isinstance(inner, list) and inner and isinstance(inner[0], dict):
            inner[0][sorted(inner[0])[number % len(inner[0])]] = value
        else:
            content[key] = value
    take(Message(f"{BASE}/porch/{kind}", to_json(content)))
