"""Time, as something that can be handed in: the real clock, or a test's own."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the program reads the time."""

    def now(self) -> datetime:
        """The wall clock, in UTC: for people and messages; it may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever go forward: for intervals, ages and time-outs."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
