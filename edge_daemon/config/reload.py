"""Applies changed settings while the program runs, at SIGHUP.

A reloadable setting takes effect at once (see `edge_daemon.config.settings.RELOADABLE`); all others
need a restart.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from edge_daemon.config.settings import KeyPath, Section, Settings, is_reloadable, leaves
from edge_daemon.errors import SettingsError

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Section)
S_contra = TypeVar("S_contra", bound=Section, contravariant=True)


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
                "applied": _names(before, self.current),
                "need_restart": _names(self.current, new),
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


def _names(before: Settings, after: Settings) -> str:
    """Names of the settings that differ."""
    old, new = (dict(leaves(settings.model_dump())) for settings in (before, after))
    changed: list[KeyPath] = [path for path in old if old[path] != new[path]]
    return ", ".join(sorted(map(".".join, changed))) or "nothing"
