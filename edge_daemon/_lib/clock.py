"""Clocks, durations of frames and as text, delays before retries, outages, floods of messages."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


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


def backoff_delays() -> Iterator[float]:
    """Seconds to wait before each attempt: exponential, with full jitter.

    The jitter keeps devices that lost the same service from reconnecting at the same time.
    """
    bound_s = FIRST_DELAY_S
    while True:
        yield random.uniform(0.0, bound_s)  # noqa: S311  # no secret depends on it
        bound_s = min(2 * bound_s, MAX_DELAY_S)


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


MAX_HOLD_S: Final = 1.0
"""Time for which a frame counts at most, when the next one is late."""


class HeldFrame(NamedTuple, Generic[T]):
    """What a frame shows, and for how long it counts."""

    start_s: float
    seconds: float
    content: T

    @property
    def end_s(self) -> float:
        return self.start_s + self.seconds


class FrameTimer(Generic[T]):
    """Finds for how long each frame counts: until the next one, for MAX_HOLD_S at most.

    The last frame before a gap without frames counts as long as the one before it.

    Args:
        interval_s: for how long a frame counts that is the only one.
    """

    def __init__(self, interval_s: float = 0.0) -> None:
        self._interval_s = interval_s
        self._last: tuple[float, T] | None = None

    def next(self, at_s: float, content: T) -> HeldFrame[T] | None:
        """Begin a frame, and return the one before it, if there is one."""
        if self._last is not None:
            self._interval_s = max(0.0, at_s - self._last[0])
        before = self.end()
        self._last = at_s, content
        return before

    def end(self) -> HeldFrame[T] | None:
        """Begin a time without frames, and return the last frame, if there is one."""
        if self._last is None:
            return None
        (start_s, content), self._last = self._last, None
        return HeldFrame(start_s, min(self._interval_s, MAX_HOLD_S), content)


def in_minutes(seconds: float) -> str:
    """A duration as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
