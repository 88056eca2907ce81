"""Events on their way to the broker: none is lost, none overtakes another.

They wait in a file of SQLite (see `spool.py`) until the broker has acknowledged them. SQLite comes
with Python, survives kills and power cuts, and anyone can look into it. Queue libraries such as
persist-queue wrap the same SQLite; what matters here (no sync in the pipeline's thread, the oldest
dropped first, a full disk endured) would still have to be built around them. While the disk cannot
be written to, events wait in memory, in their order behind those on the disk.

Sequence numbers go on over restarts. Only when the file was lost, or could not be read at a start,
do they begin at 1 again; an `event_id` is never used twice.
"""

import contextlib
import fcntl
import logging
import math
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.outage import Episode
from edge_daemon.errors import SettingsError
from edge_daemon.publishing.event_store import LONG_LOG, Damaged, Entry, Spool, last_known, rescued
from edge_daemon.records import Event
from edge_daemon.schema import EventMessage, SpoolMessage, event_message

logger = logging.getLogger(__name__)

TENDING_INTERVAL: Final = 1.0
"""Seconds between two syncs at least: what a power cut may cost."""

RETRY_INTERVAL: Final = 5.0
"""Seconds until a failing disk is tried again."""

MOST_IN_MEMORY: Final = 1000
"""Events that wait in memory at most, while the disk fails."""

DELETED_AT_ONCE: Final = 100
"""Acknowledged events that are not yet deleted, at most: in a crash, they are sent once more."""

RESCUED_AT_ONCE: Final = 500
"""Events in one transaction, when those of a damaged file are taken over."""


@dataclass(frozen=True)
class OutboxLimits:
    """When the oldest events are given up."""

    events: int
    """How many may wait."""
    age: float
    """Seconds that one may wait, not counting the time in which no daemon ran."""


class Outbox:
    """Where events wait. `append` never waits for the disk; what does is left to `tend`.

    Args:
        folder: where the file is kept.
        device_id: whose events they are; two devices may share a folder.
        limits: when the oldest events are given up.
        clock: where the time is read.

    Raises:
        SettingsError: another daemon uses the same file.
    """

    def __init__(self, folder: Path, device_id: str, limits: OutboxLimits, clock: Clock) -> None:
        self._path = folder / f"events-{device_id}.sqlite"
        self._limits = limits
        self._clock = clock
        self._lock = threading.RLock()
        self._spool: Spool | None = None
        """The file, if it can be read."""
        self._failing = True
        """Whether it cannot be written to, until that is tried again."""
        self._retired: list[Spool] = []
        self._damage: Damaged | None = None
        self._checked = False
        self._memory: deque[Entry] = deque()
        self._acknowledged: set[int] = set()
        self._unsynced = False
        self._next_sequence = 1
        self._next_tending = self._next_try = clock.monotonic()
        self._trouble = Episode(clock)
        self._dropping = Episode(clock)
        self._dropped = self._dropped_before = 0
        self._guard = _only_one(self._path.with_suffix(".lock"))
        with self._watched():
            self._try_again()

    def append(self, event: Event, latency_ms: float) -> EventMessage:
        """Number an event and keep it until it is acknowledged; the message that tells it."""
        with self._lock:
            message = event_message(event, self._next_sequence, latency_ms)
            payload = message.model_dump_json(by_alias=True).encode()
            entry = Entry(self._next_sequence, self._clock.now().timestamp(), payload)
            self._next_sequence += 1
            if not self._stored(entry):
                self._remember(entry)
            return message

    def pending(self, after: int, limit: int) -> list[Entry]:
        """The first events behind a sequence number that are not acknowledged, in order."""
        with self._lock:
            entries: list[Entry] = []
            if self._spool is not None:
                with self._watched(reading=True):
                    entries = self._spool.after(after, limit + self._acknowledged_behind(after))
            entries += [entry for entry in self._memory if entry.sequence > after]
            waiting = [entry for entry in entries if entry.sequence not in self._acknowledged]
            return sorted(waiting)[:limit]

    def acknowledge(self, sequence: int) -> None:
        """Forget an event that the broker has taken over."""
        with self._lock:
            for entry in self._memory:
                if entry.sequence == sequence:
                    self._memory.remove(entry)
                    return
            self._acknowledged.add(sequence)
            if len(self._acknowledged) >= DELETED_AT_ONCE:
                with self._watched():
                    self._forget_acknowledged()

    @property
    def depth(self) -> int:
        """How many events wait."""
        with self._lock:
            stored = 0 if self._spool is None else self._spool.count - len(self._acknowledged)
            return max(0, stored) + len(self._memory)

    @property
    def last_sequence(self) -> int:
        return self._next_sequence - 1

    def figures(self) -> SpoolMessage:
        """How events stand. May be called from any thread."""
        with self._lock:
            now = self._clock.now().timestamp()
            oldest = [max(0.0, now - entry.created) for entry in self.pending(0, 1)]
            return SpoolMessage(
                depth=self.depth,
                oldest_age_s=round(sum(oldest), 1),
                dropped=self._dropped,
                durable=self._durable,
            )

    def tend(self) -> None:
        """Do what may take long, if it is time: call it again and again, in one thread."""
        if self._clock.monotonic() < self._next_tending:
            return
        self._next_tending = self._clock.monotonic() + TENDING_INTERVAL
        with self._watched():
            if self._failing:
                self._try_again()
            with self._lock:
                self._forget_acknowledged()
                self._drop_excess()
            self._sync()
        self._tell_recovery()

    def close(self) -> None:
        """Close the file. Nothing may be appended any more."""
        with self._lock:
            with self._watched():
                self._forget_acknowledged()
            self._retire()
            self._close_retired()
            self._failing, self._next_try = True, math.inf
            if self._guard is not None:
                os.close(self._guard)

    @property
    def _durable(self) -> bool:
        return not (self._failing or self._memory)

    def _stored(self, entry: Entry) -> bool:
        """Whether an event could be put on the disk."""
        if self._spool is None or self._failing:
            return False
        with self._watched():
            self._spool.append([entry])
            self._unsynced = True
            return True
        return False

    def _acknowledged_behind(self, sequence: int) -> int:
        """An upper bound of how many acknowledged events stand behind a sequence number."""
        return len(self._acknowledged) if max(self._acknowledged, default=0) > sequence else 0

    def _remember(self, entry: Entry) -> None:
        self._memory.append(entry)
        if len(self._memory) > MOST_IN_MEMORY:
            self._memory.popleft()
            self._note_dropped(1)

    @contextlib.contextmanager
    def _watched(self, *, reading: bool = False) -> Iterator[None]:
        """A failing disk is an episode, not an end: it is told, and tried again."""
        try:
            yield
        except (Damaged, sqlite3.Error, OSError) as error:
            with self._lock:
                if reading or isinstance(error, Damaged):
                    self._retire()
                self._fail(error)

    def _retire(self) -> None:
        """Leave the open file alone until it can be closed, by whoever tends."""
        if self._spool is not None:
            self._retired.append(self._spool)
            self._spool = None

    def _close_retired(self) -> None:
        with self._lock:
            retired, self._retired = self._retired, []
        for spool in retired:
            spool.close()

    def _fail(self, error: Exception) -> None:
        self._failing = True
        self._next_try = self._clock.monotonic()
        if isinstance(error, Damaged):
            self._damage = error
            return
        self._next_try += RETRY_INTERVAL
        if self._trouble.begin():
            logger.warning(
                "cannot keep events on disk, keeping them in memory",
                extra={"file": str(self._path), "error": str(error), "next": self._next_sequence},
            )

    def _try_again(self) -> None:
        """Open the file anew; the one that is open serves on for reading if that does not work.

        Only then, for a moment, must appends wait.
        """
        if self._clock.monotonic() < self._next_try:
            return
        self._close_retired()
        spool = self._opened()
        with self._lock:
            try:
                self._hand_over(spool)
            except BaseException:
                spool.close()
                raise
            self._retire()
            self._spool, self._failing, self._unsynced = spool, False, True

    def _hand_over(self, spool: Spool) -> None:
        """Note the numbers that were given meanwhile, and store what waits in memory.

        Numbers below those in the file are of a start that could not read it: their events stay
        in memory until they are delivered.
        """
        settled = (self._memory[0].sequence if self._memory else self._next_sequence) - 1
        spool.advance(max(spool.last, settled))
        if self._memory and self._memory[0].sequence > spool.last:
            spool.append(self._memory)
            self._memory.clear()
        self._next_sequence = max(self._next_sequence, spool.last + 1)

    def _opened(self) -> Spool:
        try:
            if self._damage is not None:
                raise self._damage
            spool = Spool(self._path, self._clock, check=not self._checked)
        except Damaged as damage:
            self._damage = damage
            spool = self._begun_anew(damage)
        self._checked = True
        return spool

    def _begun_anew(self, damage: Damaged) -> Spool:
        """A new file, with all that can be read of the damaged one, which is kept beside it."""
        aside = _set_aside(self._path, f"{self._clock.now():%Y%m%dT%H%M%SZ}")
        spool = Spool(self._path, self._clock)
        self._damage = None
        try:
            spool.advance(last_known(aside))
            entries = rescued(aside)
            while batch := list(islice(entries, RESCUED_AT_ONCE)):
                spool.append(batch)
        except BaseException:
            spool.close()
            raise
        logger.warning(
            "the file of waiting events is damaged, beginning a new one",
            extra={
                "error": str(damage),
                "kept": str(aside),
                "rescued": spool.count,
                "next": max(spool.last + 1, self._next_sequence),
            },
        )
        return spool

    def _forget_acknowledged(self) -> None:
        if self._spool is not None and self._acknowledged and not self._failing:
            self._spool.delete(self._acknowledged)
            self._acknowledged.clear()

    def _drop_excess(self) -> None:
        if self._spool is None or self._failing or self._spool.count == 0:
            return
        dropped = self._spool.delete_older(self._limits.age)
        if (excess := self._spool.count - self._limits.events) > 0:
            dropped += self._spool.delete_oldest(excess)
        if dropped:
            self._note_dropped(dropped)

    def _note_dropped(self, number: int) -> None:
        self._dropped += number
        if self._dropping.begin():
            self._dropped_before = self._dropped - number
            logger.warning(
                "too many events wait, or for too long: dropping the oldest",
                extra={"waiting": self.depth, "limit": self._limits.events},
            )

    def _sync(self) -> None:
        spool = self._spool
        if spool is None or self._failing:
            return
        if self._unsynced:
            self._unsynced = False  # before, since what is appended meanwhile may be too late
            spool.sync()
        if spool.log_size > LONG_LOG:
            spool.checkpoint(self._lock)

    def _tell_recovery(self) -> None:
        if self._durable and (lasted := self._trouble.end()) is not None:
            logger.info("events are kept on disk again", extra={"seconds": lasted})
        if self.depth == 0 and (lasted := self._dropping.end()) is not None:
            dropped = self._dropped - self._dropped_before
            logger.info("no events wait any more", extra={"dropped": dropped, "seconds": lasted})


def _only_one(file: Path) -> int | None:
    """A lock that is held as long as its descriptor is open; None where no file can be had."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_CREAT | os.O_RDONLY, 0o600)
    except OSError:
        return None  # as the spool will find, and tell
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SettingsError(
            f"{file}: another edge-daemon uses it; give each its own device_id or state_dir"
        ) from error
    return descriptor


def _set_aside(path: Path, when: str) -> Path:
    """Rename a damaged spool's files; of those damaged earlier none is kept."""
    for earlier in path.parent.glob(f"{path.name}.damaged-*"):
        earlier.unlink()
    aside = path.with_name(f"{path.name}.damaged-{when}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
