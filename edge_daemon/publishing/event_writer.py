"""The service that saves the event queue to disk: the only thread that uses the store.

SQLite comes with Python, survives kills and power cuts, and is easy to inspect. Queue libraries
such as persist-queue wrap SQLite too, without what matters here: no fsync in the pipeline's thread,
the oldest event dropped first, a full disk endured.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import Final, NamedTuple

from edge_daemon._lib.clock import Clock
from edge_daemon.errors import StateInUse
from edge_daemon.pipeline import Busy, Service
from edge_daemon.publishing.event_queue import MAX_WINDOW, EventQueue
from edge_daemon.publishing.event_store import (
    EventStore,
    OpenStore,
    Replacement,
    StoreDamaged,
    last_number,
    read_intact_events,
)

logger = logging.getLogger(__name__)

STEP_INTERVAL_S: Final = 0.5
"""Time between two steps without new events."""

SYNC_INTERVAL_S: Final = 1.0
"""Time between two syncs: the events that a power cut can cost."""

RETRY_INTERVAL_S: Final = 5.0
"""Time until a failing disk is tried again."""

STOP_TIMEOUT_S: Final = 1.1
"""Limit on waiting for the sender at the end."""

TEMPORARY_ERRORS: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})
"""Result codes after which the open file is still usable."""


class QueueLimits(NamedTuple):
    """Limits on the events on disk; the oldest are dropped."""

    max_events: int
    max_age_s: float
    """Not counting the time in which no daemon runs."""


class EventWriter(Service):
    """Saves new events, deletes delivered ones, and loads those that the sender needs next.

    Args:
        queue: the queue to save.
        path: the database; several devices can share its folder.
        limits: when to drop events.
        clock: the clock to use.
        open_store: opens the database.

    Raises:
        StateInUse: another daemon uses the same database.
    """

    name = "events"
    is_hang_fatal = False

    def __init__(
        self,
        queue: EventQueue,
        path: Path,
        limits: QueueLimits,
        clock: Clock,
        *,
        open_store: OpenStore = EventStore,
    ) -> None:
        self._queue = queue
        self._path = path
        self._limits = limits
        self._clock = clock
        self._open_store = open_store
        self._replacement = Replacement(path, clock, open_store)
        self._store: EventStore | None = None
        self._damage: StoreDamaged | None = None
        self._damaged_at = float("-inf")
        self._is_checked = False
        self._next_attempt = self._next_sync = clock.monotonic()
        self._is_unsynced = False
        self._stop_at: float | None = None
        self._in_use = threading.Lock()
        self._file_lock = _FileLock(self._path.with_suffix(".lock"))
        with contextlib.suppress(OSError):  # the first step reports it
            self._file_lock.acquire()
        self.step()

    def run(self, busy: Busy) -> None:
        """Write until `stop` is called and the sender has ended."""
        with self._in_use:
            while not self._is_finished():
                self._wait()
                with busy:
                    self.step()
            with busy:
                self._close()

    def stop(self) -> None:
        self._stop_at = self._clock.monotonic()

    def close(self) -> None:
        """Close the database. Does nothing while `run` uses it, which closes it at its end."""
        if self._in_use.acquire(blocking=False):
            self._close()
            self._in_use.release()

    def step(self) -> None:
        """Write what is new, and sync, drop, load and check what is due."""
        if self._clock.monotonic() >= self._next_attempt:
            with self._queue.disk_access():
                error = self._attempt()
            self._queue.report_disk(error)
        else:
            self._queue.log_durability()

    def _wait(self) -> None:
        """Wait for events; while the disk fails, only for the next attempt or the end."""
        delay_s = self._next_attempt - self._clock.monotonic()
        if delay_s > 0:
            self._queue.wait_for_close(min(delay_s, STEP_INTERVAL_S))
        else:
            self._queue.wait(STEP_INTERVAL_S)

    def _attempt(self) -> str | None:
        """Use the disk, and return what went wrong, if anything."""
        try:
            self._work(self._ensure_store())
        except StoreDamaged as damage:
            self._damage = damage
            self._close_store()
            now = self._clock.monotonic()
            if now - self._damaged_at < RETRY_INTERVAL_S:  # a new database did not help
                self._next_attempt = now + RETRY_INTERVAL_S
            self._damaged_at = now
            return str(damage)
        except (sqlite3.Error, OSError, StateInUse) as error:
            self._next_attempt = self._clock.monotonic() + RETRY_INTERVAL_S
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if isinstance(error, sqlite3.Error) and code not in TEMPORARY_ERRORS:
                self._close_store()
            return str(error)
        return None

    def _work(self, store: EventStore) -> None:
        self._load(store)  # first, as a full disk refuses what follows
        now = self._clock.monotonic()
        is_sync_due = now >= self._next_sync
        if is_sync_due:
            self._queue.drop(store.expired(*self._limits))
        changes = self._queue.changes()
        if changes.added or changes.deleted or changes.last > store.last:
            store.apply(changes.added, changes.deleted, changes.last)
            self._queue.confirm(changes, store.count)
            self._is_unsynced = True
        self._load(store)
        if is_sync_due:
            self._next_sync = now + SYNC_INTERVAL_S
            if self._is_unsynced:
                store.sync()
                self._is_unsynced = False
            store.checkpoint()

    def _load(self, store: EventStore) -> None:
        """Load the events that the sender needs next, if that is due."""
        if (after := self._queue.load_after) is not None:
            self._queue.load(store.after(after, MAX_WINDOW))

    def _ensure_store(self) -> EventStore:
        """Open the store, or restore its files, if necessary.

        Raises:
            StoreDamaged: the file is not a usable event database.
            sqlite3.Error: it cannot be opened now.
            OSError: likewise.
        """
        if self._store is None:
            self._file_lock.acquire()
            if self._replacement.finish():
                self._damage = None
            self._store = self._open_or_replace()
            self._queue.attach(self._store.last, self._store.count)
        elif not (self._store.is_in_place and self._file_lock.is_in_place):
            self._file_lock.acquire()
            self._store = self._restore_files(self._store)
            self._queue.attach(self._store.last, self._store.count)
        return self._store

    def _open_or_replace(self) -> EventStore:
        if self._damage is None:
            try:
                return self._open(check=not self._is_checked)
            except StoreDamaged as damage:
                self._damage = damage
        self._replace_damaged(self._damage)
        self._damage = None
        return self._open()

    def _open(self, *, check: bool = False) -> EventStore:
        store = self._open_store(self._path, self._clock, check=check)
        self._is_checked = True
        return store

    def _replace_damaged(self, damage: StoreDamaged) -> None:
        """Start a new database with the intact events of the damaged one, whose files are kept."""
        last = last_number(self._path)
        with contextlib.closing(read_intact_events(self._path)) as entries:
            new = self._replacement.write(entries, last, "damaged")
        logger.warning(
            "event database damaged, starting a new one",
            extra={
                "error": str(damage),
                "kept": str(new.kept),
                "salvaged": new.count,
                "next": max(new.last, self._queue.last_sequence) + 1,
            },
        )
        self._replacement.finish()

    def _restore_files(self, old: EventStore) -> EventStore:
        """Return a store at the path with the events of the open one, whose files were moved.

        The open store stays in use until that works.
        """
        if old.is_in_place:
            return old
        kept = None
        if old.is_database_in_place:  # without its log, which the open store still has
            old.empty_log()
        else:
            kept = self._write_again(old)
        self._close_store()
        logger.warning(
            "event database removed or replaced, writing it again",
            extra={"file": str(self._path), "kept": str(kept), "events": old.count},
        )
        return self._open()

    def _write_again(self, old: EventStore) -> Path | None:
        """Write the events of the open store to the path.

        Returns:
            The new name of what was at the path, if anything.

        Raises:
            OSError: it cannot be written now; the open store is still usable.
        """
        is_replaced = self._path.exists()
        try:
            new = self._replacement.write(old.all_events(), old.last, "replaced")
            self._replacement.finish()
        except (sqlite3.Error, OSError) as error:
            # The files can be moved back, and the open store get more events.
            self._replacement.discard()
            raise OSError(str(error)) from error
        return new.kept if is_replaced else None

    def _is_finished(self) -> bool:
        if self._stop_at is None:
            return False
        return self._queue.is_closed or self._clock.monotonic() > self._stop_at + STOP_TIMEOUT_S

    def _close(self) -> None:
        self._next_attempt = self._clock.monotonic()
        self.step()
        self._close_store()
        self._next_attempt = float("inf")
        self._file_lock.release()

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


class _FileLock:
    """A lock on a file (flock), which one process holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Lock the file at the path, also if it is not the one that is locked already.

        Raises:
            StateInUse: another process holds the lock.
            OSError: the file cannot be created.
        """
        if self.is_in_place:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDONLY, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):  # a file system without locks
                raise
            raise StateInUse(
                f"state_dir: in use by another edge-daemon (got {self._path}); stop that, or give "
                "each daemon its own device_id or state_dir"
            ) from error
        self.release()
        self._descriptor = descriptor

    @property
    def is_in_place(self) -> bool:
        """Whether the file at the path is the locked one."""
        try:
            return self._descriptor is not None and os.path.samestat(
                os.fstat(self._descriptor), self._path.stat()
            )
        except OSError:
            return False

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
