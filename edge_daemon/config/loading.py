"""Loads the settings from a TOML file, then the environment, then the command line.

Each later layer overrides the earlier. All problems of all layers are reported at once.
"""

import difflib
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge_daemon._lib.text import shown
from edge_daemon._lib.validation import name_of, reason
from edge_daemon.config.settings import KeyPath, Section, Settings, leaves, subsections
from edge_daemon.errors import SettingsError

ENVIRONMENT_PREFIX: Final = "EDGE_DAEMON_"
NESTING: Final = "__"
SYSTEM_CONFIG: Final = Path("/etc/edge-daemon/config.toml")

Layer = Iterator[tuple[KeyPath, object, str]]
"""Settings from one place: path, value, and origin."""


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[KeyPath, object] | None = None,
) -> Settings:
    """Read all layers and check them.

    Args:
        file: a TOML file; without, the system's own where it exists.
        environment: variables such as EDGE_DAEMON_MQTT__HOST for mqtt.host.
        flags: values from the command line, by path.

    Raises:
        SettingsError: with one line for each problem.
    """
    file = settings_file(file)
    layers = [
        *_from_file(file),
        *_from_environment(environment or {}),
        *((path, value, "command line") for path, value in (flags or {}).items()),
    ]
    tree: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for path, value, origin in layers:
        _plant(tree, path, value)
        origins[path] = origin
    _settle_preview(tree, origins.keys())
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        problems = (_problem(details, origins) for details in error.errors())
        raise SettingsError(*problems) from error


def settings_file(named: Path | None) -> Path | None:
    """The file that is read: the one that was named, else the system's own where it exists."""
    return named or (SYSTEM_CONFIG if SYSTEM_CONFIG.is_file() else None)


def _from_file(file: Path | None) -> Layer:
    if file is None:
        return
    try:
        settings = list(leaves(tomllib.loads(file.read_text(encoding="utf-8"))))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also of numbers and levels without end
        raise SettingsError(f"{file}: not valid TOML: {error}") from error
    for path, value in settings:
        yield path, value, str(file)


def _from_environment(environment: Mapping[str, str]) -> Layer:
    for name, value in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            path = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split(NESTING))
            yield path, value, name


def _plant(tree: dict[str, Any], path: KeyPath, value: object) -> None:
    for key in path[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            return  # a value in a section's place stays there, to be refused
        tree = branch
    tree[path[-1]] = value


def _settle_preview(tree: dict[str, Any], said: Collection[KeyPath]) -> None:
    """What goes without saying for whoever wants to look: no broker, and a clip that goes on."""
    if ("preview", "listen") not in said:
        return
    if ("sink",) not in said and ("mqtt", "host") not in said:
        _plant(tree, ("sink",), "none")
    if ("capture", "loop") not in said:
        _plant(tree, ("capture", "loop"), value=True)


def _problem(details: ErrorDetails, origins: Mapping[KeyPath, str]) -> str:
    """One line: the key's path, what is wrong with it, and where it was said."""
    path = tuple(map(str, details["loc"]))
    key = name_of(path)
    if details["type"] == "extra_forbidden":
        said = f"{key}: no such setting{_suggestion(path)}"
    else:
        said = f"{key}: {shown(details['input'])} is not possible: it {reason(details)}"
    below = (where for known, where in origins.items() if known[: len(path)] == path)
    origin = origins.get(path) or next(below)
    return f"{said} ({origin})"


def _suggestion(path: KeyPath) -> str:
    """The known name nearest to an unknown one: joined in another way, a sibling, or elsewhere."""
    joined = [name for name in _names() if "_".join(name) == "_".join(path)]
    siblings = {name[-1]: name for name in _names() if name[:-1] == path[:-1]}
    near = [siblings[key] for key in difflib.get_close_matches(path[-1], siblings, n=1)]
    elsewhere = [name for name in _names() if name[-1] == path[-1]]
    found = joined or near or elsewhere
    return f"; did you mean {'.'.join(found[0])}?" if found else ""


def _names(model: type[Section] = Settings, parent: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of all settings and sections, in the order in which they are declared."""
    inner = subsections(model)
    for key in model.model_fields:
        yield (*parent, key)
        if key in inner:
            yield from _names(inner[key], (*parent, key))
