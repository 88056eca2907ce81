"""The documentation: generated parts are current, links resolve, commands are accepted."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import documents
import jsonschema
import pytest
from builders import event as event_record
from builders import probabilities, result
from commands.watch.test_command import publish
from conftest import FakeClock
from documents import (
    DOCS,
    OPERATION,
    PAGE,
    PICTURE,
    README,
    ROOT,
    SETTINGS_SCHEMA,
    schema_file,
    schema_of,
    schema_text,
    settings_schema,
    with_metrics,
    with_models,
    with_tables,
)
from payloads import encoded, event, faces, health, scored, state, unscored
from publishing.broker import Mosquitto
from running import PATIENCE

from edge_daemon import cli
from edge_daemon.publishing.messages import MessageKind
from edge_daemon.publishing.subscription import MODELS
from edge_daemon.records import FrameResult
from edge_daemon.schema import SourceState, faces_payload

HINT = "the documents are older than the code: run 'python tests/documents.py'"

PAGE_TEXT = PAGE.read_text(encoding="utf-8")

PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("[emt]*/*.md")])
"""Pages of the top level, docs/, examples/, models/ and trainer/."""

KINDS = pytest.mark.parametrize("kind", MODELS)


def example(kind: MessageKind) -> bytes:
    """The message that the page shows for a kind."""
    section = PAGE_TEXT.partition(f"### `{kind}`")[2].partition("\n### ")[0]
    (example_text,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    return example_text.encode()


def valid(kind: MessageKind, payload: bytes) -> bool:
    schema = json.loads(schema_file(kind).read_text())
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return validator.is_valid(json.loads(payload))


@KINDS
def test_schema_matches_model(kind: MessageKind) -> None:
    assert schema_file(kind).read_text(encoding="utf-8") == schema_text(kind), HINT


def test_schema_of_the_settings_matches_the_model() -> None:
    assert SETTINGS_SCHEMA.read_text(encoding="utf-8") == settings_schema(), HINT


def test_schemas_have_models() -> None:
    assert {file.stem for file in (DOCS / "schema").iterdir()} == {str(kind) for kind in MODELS}


def test_tables_match_models() -> None:
    assert with_tables(PAGE_TEXT) == PAGE_TEXT, HINT
    for kind in MODELS:
        for field in schema_of(kind)["properties"]:
            assert f"| `{field}` |" in PAGE_TEXT


def test_image_of_watch_is_current() -> None:
    drawn = PICTURE.read_text(encoding="utf-8")
    assert documents.words_in(drawn) == documents.words_in(documents.picture()), HINT
    assert "#12" in documents.words_in(drawn)
    assert "font-face" not in drawn


@KINDS
def test_example_is_valid_and_complete(kind: MessageKind) -> None:
    example_text = example(kind)
    message = MODELS[kind].model_validate_json(example_text)
    assert json.loads(encoded(message)) == json.loads(example_text)
    assert valid(kind, example_text)


@KINDS
def test_schema_accepts_new_fields_only(kind: MessageKind) -> None:
    content = json.loads(example(kind))
    assert valid(kind, json.dumps(content | {"novelty": 1}).encode())
    assert not valid(kind, json.dumps(content | {"schema": 2}).encode())
    for field in content:
        less = {name: value for name, value in content.items() if name != field}
        assert not valid(kind, json.dumps(less).encode())


def full_result() -> FrameResult:
    made = result(0.0, {1: probabilities(happy=0.7), 2: None})
    return FrameResult(made.frame, made.faces, made.live_tracks, (event_record(),))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (MessageKind.FACES, faces_payload(full_result(), FakeClock())),
        (MessageKind.FACES, encoded(faces(scored(1, "sad", 0.4), unscored(2)))),
        (MessageKind.EVENT, encoded(event(1))),
        (MessageKind.STATE, encoded(state(seen=0))),
        (MessageKind.HEALTH, encoded(health(SourceState.LOST, temperature=None))),
    ],
)
def test_published_message_is_valid(kind: MessageKind, payload: bytes) -> None:
    assert valid(kind, payload)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_link_within_repository_resolves(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text)
    assert [link for link in links if not _resolves(page, *link)] == []


def _resolves(page: Path, path: str, anchor: str) -> bool:
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or anchor in set(_anchors(target.read_text(encoding="utf-8")))


def _anchors(text: str) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands_in(page: Path) -> list[list[str]]:
    """The arguments of each call of edge-daemon in the page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.match(r" *(?:sudo )?(?:\S*/)?edge-daemon ([^|>]*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_command_in_documentation_is_accepted(page: Path) -> None:
    for arguments in commands_in(page):
        cli._parser().parse_args(cli._with_command(arguments))


def test_commands_are_found_in_documentation() -> None:
    assert ["run", "--source", "CLIP.mp4", "--sink", "jsonl"] in commands_in(README)
    assert ["check"] in commands_in(README)
    assert sum(len(commands_in(page)) for page in PAGES) > 20


def test_operation_has_the_metrics_of_the_exporter() -> None:
    text = OPERATION.read_text(encoding="utf-8")
    assert with_metrics(text) == text, HINT
    assert "`edge_daemon_source_state` | gauge | `state`" in text


def test_readme_has_the_figures_of_the_bundle() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_models(text) == text, HINT
    bundle = json.loads((ROOT / "models" / "bundle.json").read_text(encoding="utf-8"))
    accuracy = bundle["ensemble"]["metrics"]["accuracy"]
    assert f"{100 * accuracy:.1f} %" in " ".join(text.split())


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


def test_subscriber_in_documentation_works(broker: Mosquitto) -> None:
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
            "hall sent an invalid event",
            "hall sent an invalid event",
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


FOREIGN_MESSAGES = (
    "THESE PACKAGES DO NOT MATCH THE HASHES",
    "Watchdog timeout",
    "Connection refused",
    "login refused: Not authorized",
)
"""Messages of pip, systemd and the operating system, and one that ends with the broker's reason."""


def test_symptom_in_troubleshooting_is_a_message_of_the_program() -> None:
    sources = [*ROOT.glob("edge_daemon/**/*.py"), *ROOT.glob("deploy/**/*.sh")]
    texts = [re.sub(r'"\s+f?"', "", source.read_text(encoding="utf-8")) for source in sources]
    program = "\n".join(texts)
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    symptoms = re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
    quoted = [text for symptom in symptoms for text in re.findall(r"`([^`]+)`", symptom)]
    messages = [text for text in quoted if " " in text and text not in FOREIGN_MESSAGES]
    assert len(messages) > 3
    assert [text for text in messages if text.split("…")[0].strip() not in program] == []


def test_tests_named_in_reliability_exist() -> None:
    text = (DOCS / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]*test_\w+\.py)`", text))
    assert len(named) > 10
    assert {name for name in named if not (ROOT / "tests" / name).exists()} == set()
