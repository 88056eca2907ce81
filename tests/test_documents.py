"""What the pages on MQTT say is so."""

import json
import re
import subprocess
import sys
from pathlib import Path

import documents
import jsonschema
import pytest
from builders import event as event_record
from builders import probabilities, result
from commands.watch.test_command import publish
from conftest import FakeClock
from documents import DOCS, PAGE, PICTURE, schema_file, schema_of, schema_text, with_tables
from payloads import encoded, event, faces, health, scored, state, unscored
from publishing.broker import Mosquitto
from running import PATIENCE

from edge_daemon.commands.watch.consumer import MODELS, Kind
from edge_daemon.records import FrameResult
from edge_daemon.schema import SourceState, faces_payload

MEND = "the documents are older than the code: run 'python tests/documents.py'"

PAGE_TEXT = PAGE.read_text(encoding="utf-8")

KINDS = pytest.mark.parametrize("kind", MODELS)


def example(kind: Kind) -> bytes:
    """The message that the page shows for a kind."""
    section = PAGE_TEXT.partition(f"### `{kind}`")[2].partition("\n### ")[0]
    (shown,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    return shown.encode()


def valid(kind: Kind, payload: bytes) -> bool:
    schema = json.loads(schema_file(kind).read_text())
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return validator.is_valid(json.loads(payload))


@KINDS
def test_schema_is_that_of_the_model(kind: Kind) -> None:
    assert schema_file(kind).read_text(encoding="utf-8") == schema_text(kind), MEND


def test_there_is_no_schema_without_a_model() -> None:
    assert {file.stem for file in (DOCS / "schema").iterdir()} == {str(kind) for kind in MODELS}


def test_tables_are_those_of_the_models() -> None:
    assert with_tables(PAGE_TEXT) == PAGE_TEXT, MEND
    for kind in MODELS:
        for field in schema_of(kind)["properties"]:
            assert f"| `{field}` |" in PAGE_TEXT


def test_picture_shows_what_watch_shows() -> None:
    drawn = PICTURE.read_text(encoding="utf-8")
    assert documents.words_in(drawn) == documents.words_in(documents.picture()), MEND
    assert "#12" in documents.words_in(drawn)
    assert "font-face" not in drawn


@KINDS
def test_example_is_valid_and_complete(kind: Kind) -> None:
    shown = example(kind)
    message = MODELS[kind].model_validate_json(shown)
    assert json.loads(encoded(message)) == json.loads(shown)
    assert valid(kind, shown)


@KINDS
def test_schema_takes_new_fields_and_refuses_missing_and_unknown_versions(kind: Kind) -> None:
    content = json.loads(example(kind))
    assert valid(kind, json.dumps(content | {"novelty": 1}).encode())
    assert not valid(kind, json.dumps(content | {"schema": 2}).encode())
    for field in content:
        less = {name: value for name, value in content.items() if name != field}
        assert not valid(kind, json.dumps(less).encode())


def full_result() -> FrameResult:
    made = result(0.0, {1: probabilities(happy=0.7), 2: None})
    return FrameResult(made.frame, made.faces, made.remembered, (event_record(),))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.FACES, faces_payload(full_result(), FakeClock())),
        (Kind.FACES, encoded(faces(scored(1, "sad", 0.4), unscored(2)))),
        (Kind.EVENT, encoded(event(1))),
        (Kind.STATE, encoded(state(seen=0))),
        (Kind.HEALTH, encoded(health(SourceState.LOST, temperature=None))),
    ],
)
def test_what_is_published_is_valid(kind: Kind, payload: bytes) -> None:
    assert valid(kind, payload)


@pytest.mark.parametrize("page", [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"])
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


class Printer:
    """The page's subscriber, as a process."""

    def __init__(self, port: int) -> None:
        (program,) = re.findall(r"```python\n(.*?)```", PAGE_TEXT, re.DOTALL)
        assert '"broker.local"' in program
        program = program.replace('"broker.local"', f'"127.0.0.1", {port}')
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )

    def lines_until(self, last: str) -> list[str]:
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line.rstrip())
            if lines[-1] == last:
                return lines
        pytest.fail(f"ended after {lines}")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)


def retained_until_read(port: int) -> None:
    """A retained event, which a subscriber sees as soon as it has subscribed."""
    publish(port, "edge-daemon/first/event", encoded(event(1)), retain=True)


def test_subscriber_of_the_page_works_as_it_stands(broker: Mosquitto) -> None:
    retained_until_read(broker.port)
    topic = "edge-daemon/hall/event"
    printer = Printer(broker.port)
    try:
        printer.lines_until("first 1 appeared happy")
        events = {number: encoded(event(number)) for number in range(2, 9)}
        unknown = json.dumps(json.loads(encoded(event(99))) | {"schema": 2}).encode()
        publish(
            broker.port, topic, events[2], events[3], events[2], b"{", b"[]", unknown, events[6]
        )
        assert printer.lines_until("hall 6 appeared happy") == [
            "hall 2 appeared happy",
            "hall 3 appeared happy",
            "hall sent no event",
            "hall sent no event",
            "hall misses 2",
            "hall 6 appeared happy",
        ]
    finally:
        printer.kill()
    publish(broker.port, topic, events[7])
    printer = Printer(broker.port)
    try:
        assert "hall 7 appeared happy" in printer.lines_until("hall 7 appeared happy")
    finally:
        printer.kill()
