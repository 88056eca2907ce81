"""Settings as text: a commented example file, the current settings, and the reference table."""

import json
import textwrap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from edge_daemon._lib.text import without_password
from edge_daemon.config.settings import (
    MAX_VALUE,
    KeyPath,
    Section,
    Settings,
    is_reloadable,
    subsections,
)

WIDTH: Final = 88

INTRODUCTION: Final = """\
# edge-daemon: all settings with their defaults; unset ones with an example.
# Uncomment a line to change it. Environment variables take precedence over this file
# (EDGE_DAEMON_MQTT__HOST for host in [mqtt]), the command line over both.
"""

REFERENCE_INTRODUCTION: Final = """\
# Configuration

<!-- Generated: edge-daemon config --markdown > docs/configuration.md -->

Settings come from a TOML file, environment variables and the command line; each takes precedence
over the one before.

| Origin | Example |
| --- | --- |
| `/etc/edge-daemon/config.toml`, or the file that `--config` or `EDGE_DAEMON_CONFIG` names | \
`host = "broker.local"` below `[mqtt]` |
| environment | `EDGE_DAEMON_MQTT__HOST=broker.local` |
| command line | `--set mqtt.host=broker.local` |

`edge-daemon config --example` prints a file with all settings, `edge-daemon config` the current
ones. After a change, `systemctl reload edge-daemon` (SIGHUP) applies the settings marked with
"reload"; all others need `systemctl restart edge-daemon`. Durations are in seconds.
In paths, a leading `~` stands for the home directory of the user who runs the daemon; for the
service it is `/var/lib/edge-daemon`.
"""


def example(settings: Settings | None = None, explicit: Collection[KeyPath] = ()) -> str:
    """A configuration file with every setting, explained and commented out.

    Args:
        settings: the values to write.
        explicit: paths of the settings that are not commented out.
    """
    return INTRODUCTION + "\n".join(_example_lines(settings or Settings(), explicit)) + "\n"


def effective(settings: Settings) -> str:
    """The current settings as TOML; passwords are masked."""
    masked = settings.model_copy(update={"source": without_password(settings.source)})
    return "\n".join(_effective_lines(masked)) + "\n"


def reference() -> str:
    """Markdown with a table of every setting: values, default, reload, description."""
    return REFERENCE_INTRODUCTION + "\n".join(_reference_lines(Settings, "")) + "\n"


def _example_lines(
    settings: Section, explicit: Collection[KeyPath], parent: KeyPath = ()
) -> Iterator[str]:
    for key, field in _plain_fields(type(settings)):
        yield ""
        yield from textwrap.wrap(
            field.description or "", WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        if (*parent, key) in explicit:
            yield f"{key} = {_toml(getattr(settings, key))}"
        else:
            yield f"#{key} = {_toml(_example_value(field))}"
    for key, section in subsections(type(settings)).items():
        yield f"\n[{key}]"
        yield f"# {section.__doc__}"
        yield from _example_lines(getattr(settings, key), explicit, (*parent, key))


def _example_value(field: FieldInfo) -> object:
    """The default, or an example of a setting without one."""
    return field.examples[0] if field.examples else field.default


def _effective_lines(settings: Section) -> Iterator[str]:
    for key, _ in _plain_fields(type(settings)):
        value = getattr(settings, key)
        if value is not None:
            yield f"{key} = {_toml(value)}"
    for key in subsections(type(settings)):
        yield f"\n[{key}]"
        yield from _effective_lines(getattr(settings, key))


def _reference_lines(model: type[Section], name: str) -> Iterator[str]:
    yield f"\n## {f'[{name}]' if name else 'Top level'}\n"
    if name:
        yield f"{model.__doc__}\n"
    yield "| Setting | Values | Default | Reload | Description |"
    yield "| --- | --- | --- | --- | --- |"
    schema = model.model_json_schema()["properties"]
    for key, field in _plain_fields(model):
        default = "" if field.examples else f"`{_toml(field.default)}`"
        cells = (
            f"`{key}`",
            _values(schema[key]),
            default or "unset",
            "reload" if is_reloadable(field) else "restart",
            field.description or "",
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    for key, section in subsections(model).items():
        yield from _reference_lines(section, f"{name}.{key}" if name else key)


def _values(schema: Mapping[str, Any]) -> str:
    """Type and range of a setting."""
    for option in schema.get("anyOf", ()):
        if option["type"] != "null":
            return _values(option)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "minimum" in schema and schema["type"] in ("integer", "number"):
        return _range(schema["minimum"], schema["maximum"])
    return {"array": "list", "object": "table", "boolean": "`true`, `false`"}.get(
        schema["type"], "path" if schema.get("format") == "path" else "text"
    )


def _range(minimum: float, maximum: float) -> str:
    if maximum < MAX_VALUE:
        return f"{minimum:g} to {maximum:,g}"
    return f"{minimum:g} or more" if minimum in (0, 1) else "above 0"


def _plain_fields(model: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    sections = subsections(model)
    return ((key, field) for key, field in model.model_fields.items() if key not in sections)


def _toml(value: object) -> str:
    """A value as TOML, whose strings, numbers, lists and booleans are as in JSON, except DEL."""
    text = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
