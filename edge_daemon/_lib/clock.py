"""Clocks: the system's, or that of a test."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Source of the time."""

    def now(self) -> datetime:
        """Wall-clock time in UTC, for messages; it can jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, for intervals, ages and timeouts."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)
