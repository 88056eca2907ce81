"""Takes over settings that were changed while the program runs, as SIGHUP asks for.

A setting is live when a part follows it; all others wait for a restart.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from edge_daemon.config.settings import KeyPath, Section, Settings, leaves
from edge_daemon.errors import SettingsError

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Section)

Apply = Callable[[Settings], None]
"""Takes over what is in force from now on; never fails, as the settings are checked already."""


class LiveSettings:
    """The settings in force, and the parts that follow their changes."""

    def __init__(self, settings: Settings) -> None:
        self.in_force = settings
        self._followers: list[tuple[KeyPath, Apply]] = []

    def follow(self, name: str, apply: Apply) -> None:
        """Have changes of a setting (`mqtt.rate`), or of a section's (`events`), taken over."""
        self._followers.append((tuple(name.split(".")), apply))

    def reload(self, read: Callable[[], Settings]) -> None:
        """Read all settings anew, and take over the live ones; bad settings change nothing."""
        try:
            wanted = read()
        except SettingsError as error:
            logger.error(  # noqa: TRY400  # one line; where it was raised is no news
                "settings cannot be read again, all stay as they are",
                extra={"error": "; ".join(error.problems)},
            )
            return
        changed = _differences(self.in_force, wanted)
        live = {path for path in changed if any(_covers(name, path) for name, _ in self._followers)}
        self.in_force = _merged(self.in_force, wanted, live)
        for name, apply in self._followers:
            if any(_covers(name, path) for path in live):
                apply(self.in_force)
        logger.info(
            "settings read again",
            extra={"applied": _names(live), "need_restart": _names(changed - live)},
        )


def _differences(before: Settings, after: Settings) -> set[KeyPath]:
    old, new = dict(leaves(before.model_dump())), dict(leaves(after.model_dump()))
    return {path for path in old if old[path] != new[path]}


def _covers(name: KeyPath, path: KeyPath) -> bool:
    return path[: len(name)] == name


def _merged(before: T, after: T, chosen: set[KeyPath], parent: KeyPath = ()) -> T:
    """The settings as before, save the chosen ones."""
    update: dict[str, object] = {}
    for key in type(before).model_fields:
        old, new = getattr(before, key), getattr(after, key)
        if isinstance(old, Section):
            update[key] = _merged(old, new, chosen, (*parent, key))
        elif (*parent, key) in chosen:
            update[key] = new
    return before.model_copy(update=update)


def _names(paths: set[KeyPath]) -> str:
    return ", ".join(sorted(map(".".join, paths))) or "nothing"
