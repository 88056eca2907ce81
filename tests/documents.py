"""The parts of the documentation that follow from the code.

    python tests/documents.py

updates them: the reference of all settings in docs/configuration.md, the JSON Schemas in
docs/schema/, the tables of fields in docs/mqtt.md, the table of metrics in docs/operation.md, the
figures of the models in README.md, the image of `edge-daemon watch`, and the schema of the settings
for the installer.
"""

import io
import json
import math
import os
import re
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from conftest import FakeClock
from monitoring.conftest import FakePublisher, write_hot_pi
from payloads import BASE, NOON, event, faces, health, message, scored, unscored
from prometheus_client import Metric
from pydantic.json_schema import GenerateJsonSchema
from rich.console import Console

from edge_daemon.capture.status import SourceStatus
from edge_daemon.commands.watch.consumer import Consumer
from edge_daemon.commands.watch.table import Notice, View
from edge_daemon.config.formatting import reference
from edge_daemon.config.settings import Settings
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.prometheus import HealthCollector
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.publishing.messages import MessageKind
from edge_daemon.publishing.subscription import MODELS
from edge_daemon.records import EventKind
from edge_daemon.schema import SCHEMA_VERSION, SourceState

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
DOCS: Final = ROOT / "docs"
PAGE: Final = DOCS / "mqtt.md"
OPERATION: Final = DOCS / "operation.md"
PICTURE: Final = DOCS / "watch.svg"
SETTINGS_SCHEMA: Final = ROOT / "deploy" / "settings.schema.json"

Schema = dict[str, Any]


class _Complete(GenerateJsonSchema):
    """Every field is always there, and is known by its name alone."""

    def field_is_required(self, *_: object, **__: object) -> bool:
        return True

    def field_title_should_be_set(self, *_: object) -> bool:
        return False


def schema_of(kind: MessageKind) -> Schema:
    """The JSON Schema of a topic's payload; it accepts additional fields."""
    schema = MODELS[kind].model_json_schema(schema_generator=_Complete)
    for definition in (schema, *schema.get("$defs", {}).values()):
        definition.pop("additionalProperties", None)
    version = {"const": SCHEMA_VERSION, "description": "The version of this schema."}
    schema["properties"] = {"schema": version} | schema["properties"] | {"schema": version}
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def schema_file(kind: MessageKind) -> Path:
    return DOCS / "schema" / f"{kind}.json"


def schema_text(kind: MessageKind) -> str:
    return json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"


def with_tables(page: str) -> str:
    """The page with its tables of fields as the models have them."""
    for kind in MODELS:
        begin, end = f"<!-- fields of {kind} -->\n", f"<!-- end of {kind} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = before + begin + "\n".join(_tables(schema_of(kind))) + "\n" + end + after
    return page


def settings_schema() -> str:
    """The JSON Schema of all settings."""
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **Settings.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _tables(schema: Schema) -> Iterator[str]:
    """A table of the fields, and one more for each object in them."""
    definitions = schema.get("$defs", {})
    yield from _table(schema["properties"], definitions)
    for name, field in schema["properties"].items():
        if (inner := _object_in(field, definitions)) is not None:
            each = "Each of" if field.get("type") == "array" else "In"
            yield from ("", f"{each} `{name}`:", "")
            yield from _table(inner["properties"], definitions)


def _table(fields: Schema, definitions: Schema) -> Iterator[str]:
    yield "| field | type | meaning |"
    yield "| --- | --- | --- |"
    for name, field in fields.items():
        meaning = field.get("description") or _resolved(field, definitions)["description"]
        yield f"| `{name}` | {_type(field, definitions)} | {meaning} |"


def _resolved(field: Schema, definitions: Schema) -> Schema:
    reference = field.get("$ref")
    return field if reference is None else definitions[reference.rpartition("/")[2]]


def _object_in(field: Schema, definitions: Schema) -> Schema | None:
    """The object that a field is, may be, or has several of."""
    for inner in (field, field.get("items", {}), *field.get("anyOf", ())):
        resolved = _resolved(inner, definitions)
        if "properties" in resolved:
            return resolved
    return None


def _type(field: Schema, definitions: Schema) -> str:
    match _resolved(field, definitions):
        case {"anyOf": choices}:
            kind = " or ".join(_type(choice, definitions) for choice in choices)
        case {"const": value}:
            kind = f"`{value}`"
        case {"enum": values}:
            kind = ", ".join(f"`{value}`" for value in values)
        case {"prefixItems": items}:
            kind = f"array of {len(items)} {_type(items[0], definitions)}s"
        case {"items": item}:
            kind = f"array of {_type(item, definitions)}s"
        case {"additionalProperties": inner}:
            kind = f"object: name to {_type(inner, definitions)}"
        case {"format": form}:
            kind = {"uuid": "UUID", "date-time": "time"}[form]
        case plain:
            kind = plain["type"]
    return kind


def with_models(page: str) -> str:
    """The page with the figures of the bundled models."""
    before, begin, rest = page.partition("<!-- models -->\n")
    _, end, after = rest.partition("<!-- /models -->")
    return before + begin + _models() + end + after


def _models() -> str:
    """A paragraph about the bundle, from its manifest."""
    folder = ROOT / "models"
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    metrics = manifest["ensemble"]["metrics"]
    files = {member["file"] for member in manifest["members"]}
    size_mb = sum((folder / file).stat().st_size for file in files) / 1e6
    mmac = sum(member["mmac"] for member in manifest["members"])
    mirrored = sum(member["mirrored"] for member in manifest["members"])
    rarest, recall = min(metrics["recall"].items(), key=lambda pair: pair[1])
    text = (
        f"The bundle `{manifest['bundle_id']}` has {len(files)} int8 TFLite model files of together"
        f" {size_mb:.1f} MB. From them the daemon makes {len(manifest['members'])} ensemble"
        f" members, {mirrored} of which process the mirrored face. With all members, a face costs"
        f" {mmac:.0f} million multiply-accumulates. Measured on FER2013's {metrics['split']}:"
        f" accuracy {100 * metrics['accuracy']:.1f} %, lowest recall {100 * recall:.1f} %"
        f" ({rarest}), expected calibration error {metrics['calibration_error']:.3f}."
    )
    return textwrap.fill(text, 100, break_on_hyphens=False) + "\n"


def _metrics() -> list[Metric]:
    """The metrics of a daemon whose machine has all sensors."""
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as folder:
        write_hot_pi(Path(folder))
        health = Health(
            clock,
            read_bundle(ROOT / "models"),
            SourceStatus("camera", clock),
            StageTimings(clock),
            FakePublisher(),
            hardware=Hardware(sys=Path(folder)),
        )
        return list(HealthCollector(health, include_emotions=True).collect())


def metric_samples() -> dict[str, set[str]]:
    """The labels of each sample by its name; of a histogram, also the bare name."""
    found: dict[str, set[str]] = {}
    for metric in _metrics():
        names = {metric.name, *(sample.name for sample in metric.samples)}
        if metric.type == "counter":
            names.add(f"{metric.name}_total")
        if metric.type == "histogram":
            names |= {f"{metric.name}_{end}" for end in ("bucket", "sum", "count")}
        labels = {label for sample in metric.samples for label in sample.labels}
        # A metric without a sample yet has its labels here only.
        labels |= set(getattr(metric, "_labelnames", ()))
        for name in names:
            found[name] = labels
    return found


def with_metrics(page: str) -> str:
    """The page with its table of metrics as the exporter has them."""
    rows = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in _metrics():
        suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
        labels = metric_samples()[metric.name] - {"le"}
        text = ", ".join(f"`{label}`" for label in sorted(labels))
        name = f"`{metric.name}{suffix}`"
        rows.append(f"| {name} | {metric.type} | {text} | {metric.documentation} |")
    before, begin, rest = page.partition("<!-- metrics -->\n")
    _, end, after = rest.partition("<!-- /metrics -->")
    return before + begin + "\n".join(rows) + "\n" + end + after


def picture() -> str:
    """`edge-daemon watch` on a terminal, as SVG."""
    notices: list[Notice] = []
    consumer = Consumer(BASE, lambda line: notices.append(Notice(NOON, line)))
    for now, emotion in _past():
        seen = faces(scored(12, emotion, 0.8), at=NOON + timedelta(seconds=now))
        consumer.take(message("hall", "faces", seen), now)
    for device, contents in _fleet().items():
        for kind, content in contents:
            consumer.take(message(device, kind, content), 0.0)
    view = View(
        title="edge-daemon at broker.local",
        problem=None,
        devices=sorted(consumer.devices.values(), key=lambda device: device.name),
        events=list(consumer.events),
        totals=consumer.totals,
        notices=notices,
        at=NOON,
        now=0.0,
    )
    console = Console(width=100, height=32, record=True, file=io.StringIO(), force_terminal=True)
    console.print(view)
    svg = console.export_svg(title="edge-daemon watch", unique_id="watch")
    # A picture must not fetch fonts from elsewhere.
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def _past() -> Iterator[tuple[float, str]]:
    """Arrival and emotion of messages over five minutes, until now."""
    for second in range(-300, 1):
        wave = math.sin(second / 31) + math.sin(second / 7) / 2
        if wave > -1:
            yield float(second), "happy" if wave > 0.8 else "surprise" if wave > 0.5 else "neutral"


def _fleet() -> Mapping[str, list[tuple[str, Any]]]:
    """A day at home, with everything that the table can show."""
    online, ago = ("availability", b"online"), NOON - timedelta(minutes=40)
    return {
        "gate": [online, ("health", health(SourceState.LOST, temperature=48.3, waiting=3))],
        "hall": [
            online,
            ("health", health(temperature=61.2)),
            (
                "faces",
                faces(
                    scored(12, "happy", 0.87),
                    scored(13, "neutral", 0.38, uncertain=True),
                    unscored(14),
                ),
            ),
            ("event", event(41, track_id=12, emotion="neutral", at=NOON - timedelta(seconds=9))),
            (
                "event",
                event(
                    42,
                    EventKind.EMOTION_CHANGED,
                    track_id=12,
                    emotion="happy",
                    previous="neutral",
                    at=NOON - timedelta(seconds=4),
                ),
            ),
        ],
        "kitchen": [
            online,
            ("health", health(temperature=82.0, throttled=("frequency_capped",))),
            ("faces", faces(scored(5, "surprise", 0.62), latency_ms=71.4)),
            (
                "event",
                event(
                    7,
                    EventKind.LEFT,
                    track_id=3,
                    emotion="sad",
                    duration=73.0,
                    at=NOON - timedelta(seconds=3),
                ),
            ),
            ("event", event(10, track_id=5, emotion="surprise", at=NOON - timedelta(seconds=1))),
        ],
        "porch": [online, ("health", health(SourceState.PAUSED, temperature=41.0))],
        "workshop": [("availability", b"offline"), ("health", health(at=ago))],
    }


def words_in(svg: str) -> list[str]:
    """The texts of an image, without the hours, which depend on the time zone."""
    return [
        re.sub(r"\d\d(:\d\d:\d\d)", r"hh\1", text)
        for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    ]


def main() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    (DOCS / "configuration.md").write_text(reference(), encoding="utf-8")
    (DOCS / "schema").mkdir(exist_ok=True)
    for kind in MODELS:
        schema_file(kind).write_text(schema_text(kind), encoding="utf-8")
    SETTINGS_SCHEMA.write_text(settings_schema(), encoding="utf-8")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    OPERATION.write_text(with_metrics(OPERATION.read_text(encoding="utf-8")), encoding="utf-8")
    README.write_text(with_models(README.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
