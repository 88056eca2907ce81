"""Clocks, durations as text, delays before retries, outages logged once, floods of messages."""

import itertools
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol


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

    now = staticmethod(partial(datetime.now, UTC))
    monotonic = staticmethod(time.monotonic)


FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 30.0
"""The bound on the delay doubles from the first to the maximum."""


def backoff_delays(first_s: float = FIRST_DELAY_S, max_s: float = MAX_DELAY_S) -> Iterator[float]:
    """Seconds to wait before each attempt: exponential, with full jitter.

    The jitter keeps devices that lost the same service from reconnecting at the same time.
    """
    for attempt in itertools.count():
        bound = min(max_s, first_s * 2 ** min(attempt, 16))
        yield random.uniform(0.0, bound)  # noqa: S311  # no secret depends on it


class Outage:
    """Whether something is out of order, and since when. It can happen repeatedly."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    @property
    def is_active(self) -> bool:
        return self._since is not None

    def begin(self) -> bool:
        """Record a failure; returns whether the outage begins with it."""
        if self._since is not None:
            return False
        self._since = self._clock.monotonic()
        return True

    def end(self) -> float | None:
        """Record a success; returns the seconds of the outage that ends with it, if any."""
        if self._since is None:
            return None
        seconds, self._since = self._clock.monotonic() - self._since, None
        return round(seconds, 1)


FLOOD_INTERVAL_S: Final = 10.0


class FloodDetector:
    """Detects more messages from outside than the service needs.

    Args:
        clock: the clock to use.
        max_messages: messages in FLOOD_INTERVAL_S that are no flood.
    """

    def __init__(self, clock: Clock, max_messages: int) -> None:
        self._clock = clock
        self._max_messages = max_messages
        self._count = 0
        self._since = clock.monotonic()

    def count(self) -> bool:
        """Count a message, and return whether it is one too many."""
        now = self._clock.monotonic()
        if now - self._since > FLOOD_INTERVAL_S:
            self._count, self._since = 0, now
        self._count += 1
        return self._count > self._max_messages


def in_minutes(seconds: float) -> str:
    """A duration as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
