"""What a check finds."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from edge_daemon.config.settings import Settings


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """Something is missing or wrong, and the program runs all the same."""
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """A level, and a line that says why; of what is not well, also the mend."""

    level: Level
    message: str

    @classmethod
    def ok(cls, message: str) -> Self:
        return cls(Level.OK, message)

    @classmethod
    def warn(cls, message: str) -> Self:
        return cls(Level.WARN, message)

    @classmethod
    def fail(cls, message: str) -> Self:
        return cls(Level.FAIL, message)


@dataclass(frozen=True)
class Check:
    """One thing to look at."""

    name: str
    look: Callable[[Settings], Finding]
    """May raise any EdgeDaemonError, whose message is then the finding."""
    limit: float = 10.0
    """Seconds after which it is given up."""
