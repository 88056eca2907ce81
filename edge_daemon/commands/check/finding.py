"""Checks and their findings."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from edge_daemon.config.settings import Settings


class Level(StrEnum):
    """Severity."""

    OK = "ok"
    WARN = "warn"
    """Something is missing or wrong, but the program runs."""
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """A level, and a line with the reason; for a problem, also with the fix."""

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
    """One check."""

    name: str
    run: Callable[[Settings], Finding]
    """Can raise any EdgeDaemonError, whose message is then the finding."""
    limit_s: float = 10.0
    """Time after which the check has failed."""
