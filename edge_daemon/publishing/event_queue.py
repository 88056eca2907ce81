"""Events between the pipeline, the disk and the broker: the part in memory.

Three threads share the queue, and none of them waits for another or for the disk:

    publishing stage --append--> [new] --saved--> [saved, on disk] --head, remove-------> sender
                                   |                   ^  |
                                   +--- EventWriter ---+  +--- window: the oldest, in memory

The sender gets an event once it is on disk, so that a killed process loses no event and uses no
sequence number twice. While the disk fails or does not respond, it also gets new events.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from edge_daemon._lib.clock import Clock, Outage
from edge_daemon.publishing.event_store import QueuedEvent
from edge_daemon.records import Event
from edge_daemon.schema import EventMessage, EventQueueStatus, event_message

logger = logging.getLogger(__name__)

MAX_NEW: Final = 1000
"""Events in memory that are not on disk."""

MAX_WINDOW: Final = 500
"""Saved events to have in memory."""

MIN_WINDOW: Final = 250
"""Number of them below which more are loaded."""

DISK_TIMEOUT_S: Final = 2.0
"""Duration of one disk operation after which new events count as not durable."""

RECOVERY_S: Final = 5.0
"""Time without a failure after which the disk counts as recovered."""


class Changes(NamedTuple):
    """What the disk does not have yet."""

    added: list[QueuedEvent]
    deleted: frozenset[int]
    last: int
    """Last used sequence number."""


@dataclass(frozen=True)
class _UnsavedEvent:
    entry: QueuedEvent
    message: EventMessage


class EventQueue:
    """Events in the order of their sequence numbers. Thread-safe; no method waits for the disk.

    Args:
        clock: the clock to use.
        on_ready: called, in any thread, when the sender has something to do.
    """

    def __init__(self, clock: Clock, on_ready: Callable[[], None]) -> None:
        self._clock = clock
        self._started_at = clock.monotonic()
        self._on_ready = on_ready
        self._changed = threading.Condition()
        self._new: deque[_UnsavedEvent] = deque()
        self._window: deque[QueuedEvent] = deque()
        self._loaded_through = 0
        """Sequence number of the last event that was in the window."""
        self._deleted: set[int] = set()
        """Delivered or dropped events that are still on disk."""
        self._saved_count = 0
        """Events on disk, including those in `_deleted`."""
        self._last = self._logged_through = 0
        self._last_earlier: int | None = None
        """Sequence number of the last event of earlier runs; None before the store is open."""
        self._dropped = self._dropped_before = 0
        self._is_closed = False
        self._disk_error: str | None = "not open"
        self._disk_busy_since: float | None = None
        self._last_failure = float("-inf")
        self._failing = Outage(clock)
        self._dropping = Outage(clock)

    # For the pipeline

    def append(self, event: Event, latency_ms: float) -> None:
        """Number an event and add it; a full queue drops its oldest new event."""
        with self._changed:
            self._last += 1
            message = event_message(event, self._last, latency_ms)
            self._new.append(_UnsavedEvent(_entry(message, self._clock.now().timestamp()), message))
            if len(self._new) > MAX_NEW:
                self._log([self._new.popleft()])
                self._count_dropped(1)
            self._changed.notify_all()
        self._on_ready()

    # For the sender

    def head(self) -> QueuedEvent | None:
        """The oldest event that can be sent now."""
        with self._changed:
            if self._window:
                return self._window[0]
            if self._new and self._backlog == 0 and not self.is_durable:
                return self._new[0].entry
            return None

    def remove(self, sequence: int, *, is_dropped: bool = False) -> None:
        """Remove the head, once the broker has accepted it, or because it never will."""
        with self._changed:
            if self._window and self._window[0].sequence == sequence:
                self._deleted.add(self._window.popleft().sequence)
            elif self._new and self._new[0].entry.sequence == sequence:
                self._log([self._new.popleft()])
            else:
                return  # dropped in the meantime
            self._dropped += is_dropped
            if self._backlog and len(self._window) < MIN_WINDOW:
                self._changed.notify_all()
            if self.depth == 0 and (seconds := self._dropping.end()) is not None:
                dropped = self._dropped - self._dropped_before
                logger.info("event queue empty", extra={"dropped": dropped, "seconds": seconds})

    def close(self) -> None:
        """Declare that the sender has ended, so that the writer can end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # For any thread

    @property
    def depth(self) -> int:
        """Events that the broker has not acknowledged."""
        with self._changed:
            return max(0, self._saved_count - len(self._deleted)) + len(self._new)

    @property
    def is_durable(self) -> bool:
        """Whether the disk takes events."""
        since = self._disk_busy_since
        is_slow = since is not None and self._clock.monotonic() - since > DISK_TIMEOUT_S
        return self._disk_error is None and not is_slow

    @property
    def last_sequence(self) -> int:
        return self._last

    def status(self) -> EventQueueStatus:
        """Depth, age and losses of the queue, for the health message."""
        with self._changed:
            oldest = [*islice(self._window, 1), *(new.entry for new in islice(self._new, 1))]
            return EventQueueStatus(
                depth=self.depth,
                oldest_age_s=self._age_s(oldest[0]) if oldest else 0.0,
                dropped=self._dropped,
                durable=self.is_durable,
            )

    def log_durability(self) -> None:
        """Log when events stop being durable, new ones in that time, and when they are again."""
        with self._changed:
            now = self._clock.monotonic()
            if not self.is_durable:
                self._last_failure = now
                if self._failing.begin():
                    reason = self._disk_error or f"no response for {DISK_TIMEOUT_S:g} s"
                    logger.warning(
                        "events not durable, keeping them in memory",
                        extra={"error": reason, "next": self._last + 1},
                    )
                self._log(self._new)
            elif now - self._last_failure >= RECOVERY_S and self._failing.is_active:
                logger.info("events durable again", extra={"seconds": self._failing.end()})

    # For the writer

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def wait(self, timeout_s: float) -> None:
        """Wait until there is something to write or to load, for a limited time."""
        with self._changed:
            if not (self._new or self._is_closed):
                self._changed.wait(timeout_s)

    def wait_for_close(self, timeout_s: float) -> None:
        """Wait until the sender has ended, for a limited time."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, timeout_s)

    @contextmanager
    def disk_access(self) -> Iterator[None]:
        """Measure the disk operations inside; afterwards the disk counts as working."""
        self._disk_busy_since = self._clock.monotonic()
        try:
            yield
        finally:
            self._disk_busy_since = None

    def report_disk(self, error: str | None) -> None:
        """Set the error of the last disk operation; None after a success."""
        self._disk_error = error
        self.log_durability()
        if error is not None:
            self._on_ready()

    def changes(self) -> Changes:
        """New events, and those to delete."""
        with self._changed:
            added = [new.entry for new in self._new]
            return Changes(added, frozenset(self._deleted), self._last)

    def confirm(self, changes: Changes, saved_count: int) -> None:
        """Note that the disk has these changes, and holds so many events."""
        with self._changed:
            added = {entry.sequence for entry in changes.added}
            saved: list[_UnsavedEvent] = []
            while self._new and self._new[0].entry.sequence in added:
                saved.append(self._new.popleft())
            self._deleted -= changes.deleted
            # Delivered or dropped while they were written:
            self._deleted |= added - {new.entry.sequence for new in saved}
            self._saved_count = saved_count
            self._log(saved)

    def attach(self, last: int, saved_count: int) -> None:
        """Continue from an opened store, with its last sequence number and count of events.

        New events get higher numbers than those in the store, where another start could not read
        the store and began at 1.
        """
        with self._changed:
            if self._new and self._new[0].entry.sequence <= last:
                self._new = deque(
                    _renumbered(new, sequence) for sequence, new in enumerate(self._new, last + 1)
                )
                self._last = last + len(self._new)
            self._last = max(self._last, last)
            if self._last_earlier is None:
                self._last_earlier = last
            self._saved_count = saved_count
            self._window.clear()
            self._loaded_through = 0

    @property
    def load_after(self) -> int | None:
        """The sequence number after which to load events into the window; None: not now."""
        with self._changed:
            is_due = self._backlog > 0 and len(self._window) < MIN_WINDOW
            return self._loaded_through if is_due else None

    def load(self, entries: Sequence[QueuedEvent]) -> None:
        """Add saved events to the window, which follow those in it."""
        with self._changed:
            self._window += [entry for entry in entries if entry.sequence not in self._deleted]
            if entries:
                self._loaded_through = entries[-1].sequence
        self._on_ready()

    def drop(self, sequences: Sequence[int]) -> None:
        """Drop saved events, which exceed a limit."""
        with self._changed:
            dropped = set(sequences) - self._deleted
            self._deleted |= dropped
            self._window = deque(entry for entry in self._window if entry.sequence not in dropped)
            if dropped:
                self._count_dropped(len(dropped))

    def _log(self, new: Iterable[_UnsavedEvent]) -> None:
        """Log each event once: when it is on disk, cannot be saved, or has left the queue."""
        for event in new:
            if event.entry.sequence > self._logged_through:
                self._logged_through = event.entry.sequence
                _log_event(event.message)

    def _age_s(self, entry: QueuedEvent) -> float:
        age_s = self._clock.now().timestamp() - entry.created
        if entry.sequence > (self._last_earlier or 0):  # the wall clock can have been set since
            age_s = min(age_s, self._clock.monotonic() - self._started_at)
        return round(max(0.0, age_s), 1)

    @property
    def _backlog(self) -> int:
        """Saved events that are not in the window."""
        return self._saved_count - len(self._deleted) - len(self._window)

    def _count_dropped(self, number: int) -> None:
        self._dropped += number
        if self._dropping.begin():
            self._dropped_before = self._dropped - number
            logger.warning(
                "event queue limit exceeded, dropping oldest", extra={"depth": self.depth}
            )


def _entry(message: EventMessage, created: float) -> QueuedEvent:
    return QueuedEvent(message.sequence, created, message.model_dump_json(by_alias=True).encode())


def _renumbered(new: _UnsavedEvent, sequence: int) -> _UnsavedEvent:
    message = new.message.model_copy(update={"sequence": sequence})
    return _UnsavedEvent(_entry(message, new.entry.created), message)


def _log_event(message: EventMessage) -> None:
    logger.info(
        "event",
        extra={
            "event_id": message.event_id,
            "kind": message.kind,
            "track_id": message.track_id,
            "emotion": message.emotion,
            "sequence": message.sequence,
        },
    )
