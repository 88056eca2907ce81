"""Loads the settings from a TOML file, then the environment, then the command line.

Each later layer overrides the earlier. All problems of all layers are reported at once. At SIGHUP
they are loaded again: a reloadable setting takes effect at once (see
`edge_daemon.config.settings.RELOADABLE`); all others need a restart.
"""

import difflib
import logging
import stat
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge_daemon._lib.text import masked_repr
from edge_daemon._lib.validation import name_of, reason
from edge_daemon.config.settings import (
    KeyPath,
    Section,
    Settings,
    is_reloadable,
    leaves,
    subsections,
)
from edge_daemon.errors import SettingsError

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Section)
S_contra = TypeVar("S_contra", bound=Section, contravariant=True)

ENVIRONMENT_PREFIX: Final = "EDGE_DAEMON_"
NESTING: Final = "__"
SYSTEM_CONFIG: Final = Path("/etc/edge-daemon/config.toml")

Layer = Iterator[tuple[KeyPath, object, str]]
"""Settings of one origin: path, value, and the origin's name."""


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[KeyPath, object] | None = None,
) -> Settings:
    """Read and validate all layers.

    Args:
        file: a TOML file; None: the system's, if it exists.
        environment: variables such as EDGE_DAEMON_MQTT__HOST for mqtt.host.
        flags: values from the command line by path.

    Raises:
        SettingsError: settings are invalid; with one line for each problem.
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
        _insert(tree, path, value)
        origins[path] = origin
    _set_preview_defaults(tree, origins.keys())
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        problems = (_problem(details, origins) for details in error.errors())
        raise SettingsError(*problems) from error


def settings_file(named: Path | None) -> Path | None:
    """The file to read: the named one, else the system's if it exists.

    Raises:
        SettingsError: it is not known whether the system's file exists.
    """
    if named is not None:
        return named
    try:
        # Not `is_file`, which hides errors from Python 3.14 on.
        mode = SYSTEM_CONFIG.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(
            f"{SYSTEM_CONFIG}: cannot be read: {error.strerror}; make its folder accessible, run "
            "with sudo, or name another file with --config"
        ) from error
    return SYSTEM_CONFIG if stat.S_ISREG(mode) else None


def _from_file(file: Path | None) -> Layer:
    if file is None:
        return
    try:
        # Some editors begin a file with a byte-order mark.
        settings = list(leaves(tomllib.loads(file.read_text(encoding="utf-8-sig"))))
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot be read: {error.strerror}; correct the path of --config or "
            "EDGE_DAEMON_CONFIG, or run with sudo"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: invalid TOML: not UTF-8 text; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # RecursionError: too deeply nested
        raise SettingsError(f"{file}: invalid TOML: {error}") from error
    for path, value in settings:
        yield path, value, str(file)


def _from_environment(environment: Mapping[str, str]) -> Layer:
    for name, value in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            path = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split(NESTING))
            yield path, value, name


def _insert(tree: dict[str, Any], path: KeyPath, value: object) -> None:
    for key in path[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            return  # validation rejects a value in place of a section
        tree = branch
    tree[path[-1]] = value


def _set_preview_defaults(tree: dict[str, Any], explicit: Collection[KeyPath]) -> None:
    """With the preview, use no broker and repeat files, unless explicit settings differ."""
    if ("preview", "listen") not in explicit:
        return
    if ("sink",) not in explicit and ("mqtt", "host") not in explicit:
        _insert(tree, ("sink",), "none")
    if ("capture", "loop") not in explicit:
        _insert(tree, ("capture", "loop"), value=True)


def _problem(details: ErrorDetails, origins: Mapping[KeyPath, str]) -> str:
    """One line: the setting, the problem, the value, and its origin."""
    path = tuple(map(str, details["loc"]))
    related = (
        name
        for known, name in origins.items()
        if known[: len(path)] == path or path[: len(known)] == known
    )
    origin = origins.get(path) or next(related)
    if details["type"] == "extra_forbidden":
        return f"{name_of(path)}: unknown setting (set by {origin}){_suggestion(path, origin)}"
    value = masked_repr(details["input"])
    problem, semicolon, fix = reason(details).partition("; ")
    return f"{name_of(path)}: {problem} (got {value}, set by {origin}){semicolon}{fix}"


def _suggestion(path: KeyPath, origin: str) -> str:
    """The closest known name, as in the origin: with other separators, or in any section."""
    joined = [name for name in _names() if "_".join(name) == "_".join(path)]
    siblings = {name[-1]: name for name in _names() if name[:-1] == path[:-1]}
    near = [siblings[key] for key in difflib.get_close_matches(path[-1], siblings, n=1)]
    elsewhere = [name for name in _names() if name[-1] == path[-1]]
    found = joined or near or elsewhere
    if not found:
        return "; see 'edge-daemon config --example'"
    if origin.startswith(ENVIRONMENT_PREFIX):
        return f"; did you mean {ENVIRONMENT_PREFIX}{NESTING.join(found[0]).upper()}?"
    return f"; did you mean {'.'.join(found[0])}?"


def _names(model: type[Section] = Settings, parent: KeyPath = ()) -> Iterator[KeyPath]:
    """Paths of all settings and sections, in order of declaration."""
    inner = subsections(model)
    for key in model.model_fields:
        yield (*parent, key)
        if key in inner:
            yield from _names(inner[key], (*parent, key))


class Reloadable(Protocol[S_contra]):
    """A part whose settings can change while it runs."""

    def apply(self, settings: S_contra) -> None:
        """Use other settings from now on. They are valid; this must be quick and never fail."""
        ...


class LiveSettings:
    """The current settings, and the parts that follow their changes."""

    def __init__(self, settings: Settings) -> None:
        self.current = settings
        self._followers: list[tuple[type[Section], Reloadable[Any]]] = []

    def follow(self, section: type[S], part: Reloadable[S]) -> None:
        """Apply a section to a part whenever it changes; `Settings` stands for all sections."""
        self._followers.append((section, part))

    def reload(self, read: Callable[[], Settings]) -> None:
        """Read all settings again and apply the reloadable ones; invalid ones change nothing."""
        try:
            new = read()
        except SettingsError as error:
            logger.error(  # noqa: TRY400  # the traceback has no further information
                "reload failed, settings unchanged",
                extra={"error": "; ".join(error.problems)},
            )
            return
        before = self.current
        self.current = _merged(before, new)
        for section, part in self._followers:
            if (settings := _section(self.current, section)) != _section(before, section):
                part.apply(settings)
        logger.info(
            "settings reloaded",
            extra={
                "applied": _changed(before, self.current),
                "need_restart": _changed(self.current, new),
            },
        )


def _section(settings: Settings, section: type[Section]) -> Section:
    """The settings' section of a type, or the settings themselves."""
    return next(
        candidate
        for candidate in (settings, *(getattr(settings, key) for key in Settings.model_fields))
        if isinstance(candidate, section)
    )


def _merged(before: S, new: S) -> S:
    """The new settings where they are reloadable, else the previous ones."""
    update: dict[str, object] = {}
    for key, field in type(before).model_fields.items():
        value = getattr(new, key)
        if isinstance(value, Section):
            update[key] = _merged(getattr(before, key), value)
        elif is_reloadable(field):
            update[key] = value
    return before.model_copy(update=update)


def _changed(before: Settings, after: Settings) -> str:
    """Names of the settings that differ."""
    old, new = (dict(leaves(settings.model_dump())) for settings in (before, after))
    changed: list[KeyPath] = [path for path in old if old[path] != new[path]]
    return ", ".join(sorted(map(".".join, changed))) or "nothing"
