"""Settings as text: a commented example file, and what is in force."""

import json
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from pydantic.fields import FieldInfo

from edge_daemon._lib.text import without_password
from edge_daemon.config.settings import KeyPath, Section, Settings, subsections

WIDTH: Final = 88

INTRODUCTION: Final = """\
# edge-daemon: all settings, with their defaults.
# Take the mark off a line and change it. The environment wins over this file
# (EDGE_DAEMON_MQTT__HOST for host in [mqtt]), the command line over both.
"""


def example(settings: Settings | None = None, said: Collection[KeyPath] = ()) -> str:
    """A configuration file with every setting, each explained and commented out at its default.

    Those of `settings` whose paths are in `said` stand there as they are, and in force.
    """
    return INTRODUCTION + "\n".join(_example_lines(settings or Settings(), said)) + "\n"


def effective(settings: Settings) -> str:
    """The settings in force, as TOML; what could be secret is masked."""
    shown = settings.model_copy(update={"source": without_password(settings.source)})
    return "\n".join(_effective_lines(shown)) + "\n"


def _example_lines(
    settings: Section, said: Collection[KeyPath], parent: KeyPath = ()
) -> Iterator[str]:
    for key, field in _plain_fields(type(settings)):
        yield ""
        yield from textwrap.wrap(
            field.description or "", WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        default = "" if field.default_factory or field.default is None else field.default
        in_force = (*parent, key) in said
        yield (
            f"{key} = {_toml(getattr(settings, key))}" if in_force else f"#{key} = {_toml(default)}"
        )
    for key, section in subsections(type(settings)).items():
        yield f"\n[{key}]"
        yield f"# {section.__doc__}"
        yield from _example_lines(getattr(settings, key), said, (*parent, key))


def _effective_lines(settings: Section) -> Iterator[str]:
    for key, _ in _plain_fields(type(settings)):
        value = getattr(settings, key)
        if value is not None:
            yield f"{key} = {_toml(value)}"
    for key in subsections(type(settings)):
        yield f"\n[{key}]"
        yield from _effective_lines(getattr(settings, key))


def _plain_fields(model: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    sections = subsections(model)
    return ((key, field) for key, field in model.model_fields.items() if key not in sections)


def _toml(value: object) -> str:
    """A scalar as TOML, whose strings, numbers and booleans are written as in JSON, save DEL."""
    text = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
