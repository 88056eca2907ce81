"""The SQLite database of events that the broker has not acknowledged, and its replacement.

One thread uses a store. Each `apply` commits to the write-ahead log (WAL) without fsync: the kernel
has the data, so a killed process loses nothing. `sync` calls fsync, for power cuts. `checkpoint`
copies a long log into the database. The connection locks the database exclusively. SQLite then
keeps the index of the log in its own memory, and no other process can open the file.
"""

import contextlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.files import sync

SCHEMA_VERSION: Final = 1

SCHEMA: Final = """
    BEGIN IMMEDIATE;
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        created REAL NOT NULL,      -- seconds since 1970, wall clock
        running REAL NOT NULL,      -- seconds, by the store's own clock
        payload BLOB NOT NULL,
        checksum INTEGER NOT NULL   -- of the other columns, as SQLite does not notice flipped bits
    );
    CREATE TABLE counter (last INTEGER NOT NULL, syncs INTEGER NOT NULL);
    INSERT INTO counter VALUES (0, 0);
    PRAGMA user_version = 1;
    COMMIT;
"""

LOG_SUFFIXES: Final = ("-wal", "-shm")
"""In the names of the files that SQLite has next to a database."""

LOCK_TIMEOUT_S: Final = 0.25
"""Limit on waiting for another program that uses the file."""

MAX_WAL_BYTES: Final = 4 * 1024 * 1024
"""Size of the write-ahead log after which a checkpoint is due."""

WAL_HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
FRAME_COMMIT: Final = slice(4, 8)
"""In a frame header: not zero in the last frame of a transaction."""
FRAME_SALT: Final = slice(8, 16)
WAL_SALT: Final = slice(16, 24)
"""In the header of the log; equal to FRAME_SALT in each valid frame."""

PERMANENT_ERRORS: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
)
"""Result codes of a damaged file, or of one with other tables."""

MAX_UNREADABLE: Final = 10_000
"""Consecutive unreadable sequence numbers after which the salvage ends."""


COPY_BATCH: Final = 500
"""Events in one transaction when they are copied to another file."""

NEW_SUFFIX: Final = ".new"
"""In the names of a database that is not in place yet."""


class StoreDamaged(Exception):
    """Raised when the file is not a usable event database."""


class QueuedEvent(NamedTuple):
    """One event in the queue."""

    sequence: int
    created: float
    """Seconds since 1970, wall clock."""
    payload: bytes


class EventStore:
    """An open event database.

    Its own clock runs only while a store is open. So neither a change of the wall clock nor a time
    without power makes events too old.

    Args:
        path: the database; created with its folder if missing.
        clock: the clock to use.
        check: whether to check the whole file for damage.

    Raises:
        StoreDamaged: the file is not a usable event database.
        sqlite3.Error: the file cannot be opened or created now.
        OSError: likewise.
    """

    def __init__(self, path: Path, clock: Clock, *, check: bool = False) -> None:
        self._clock = clock
        self._path = path
        self._wal = path.with_name(f"{path.name}-wal")
        _create_private(path)
        self._connection = sqlite3.connect(
            path, LOCK_TIMEOUT_S, isolation_level="IMMEDIATE", check_same_thread=False
        )
        try:
            with translate_damage_errors():
                self._prepare(check=check)
                self.count = int(self._value("SELECT count(*) FROM events"))
                self.last = int(self._value("SELECT last FROM counter"))
                running = float(self._value("SELECT coalesce(max(running), 0) FROM events"))
            self._started = clock.monotonic() - running
            self.apply()  # creates the log
            self._identities = _identity(path), _identity(self._wal)
            sync(path.parent)
        except BaseException:
            self._connection.close()
            raise

    def apply(
        self, added: Iterable[QueuedEvent] = (), deleted: Iterable[int] = (), last: int = 0
    ) -> None:
        """Add and delete events, and raise the last used sequence number, in one transaction."""
        running = self._clock.monotonic() - self._started
        rows = [(entry.sequence, entry.created, running, entry.payload) for entry in added]
        last = max([last, self.last, *(sequence for sequence, *_ in rows)])
        with translate_damage_errors(), self._connection as connection:
            inserted = connection.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
                [(*row, checksum(*row)) for row in rows],
            )
            removed = connection.executemany(
                "DELETE FROM events WHERE sequence = ?", [(sequence,) for sequence in deleted]
            )
            connection.execute("UPDATE counter SET last = ?", [last])
        self.count += max(0, inserted.rowcount) - max(0, removed.rowcount)
        self.last = last

    def after(self, sequence: int, limit: int) -> list[QueuedEvent]:
        """The first events after a sequence number, in order."""
        query = (
            "SELECT sequence, created, payload FROM events WHERE sequence > ? "
            "ORDER BY sequence LIMIT ?"
        )
        with translate_damage_errors():
            return list(map(QueuedEvent._make, self._connection.execute(query, [sequence, limit])))

    def all_events(self) -> Iterator[QueuedEvent]:
        """All events, in order."""
        last = 0
        while batch := self.after(last, COPY_BATCH):
            yield from batch
            last = batch[-1].sequence

    def expired(self, max_events: int, max_age_s: float) -> list[int]:
        """Sequence numbers of the oldest events that exceed a limit."""
        oldest_allowed = self._clock.monotonic() - self._started - max_age_s
        query = (
            "SELECT sequence FROM events WHERE sequence < coalesce("
            "(SELECT sequence FROM events WHERE running >= ? ORDER BY sequence LIMIT 1), 1e18) "
            "UNION SELECT * FROM (SELECT sequence FROM events ORDER BY sequence LIMIT ?)"
        )
        excess = max(0, self.count - max_events)
        with translate_damage_errors():
            rows = self._connection.execute(query, [oldest_allowed, excess])
            return [sequence for (sequence,) in rows]

    def sync(self) -> None:
        """Write all commits to the disk (fsync). Can take long."""
        with translate_damage_errors(), self._synchronous(), self._connection as connection:
            # A commit without a change calls no fsync.
            connection.execute("UPDATE counter SET syncs = syncs + 1")

    def checkpoint(self) -> None:
        """Copy the log into the database and empty it, once it is long. Can take long."""
        if self._wal.stat().st_size > MAX_WAL_BYTES:
            self.empty_log()

    def empty_log(self) -> None:
        """Copy the log into the database and empty it. Can take long."""
        self._checkpoint("TRUNCATE")

    @property
    def is_in_place(self) -> bool:
        """Whether the files at the path are the open ones, not removed, renamed or replaced."""
        return self.is_database_in_place and _identity(self._wal) == self._identities[1]

    @property
    def is_database_in_place(self) -> bool:
        """The same of the database without its log."""
        return _identity(self._path) == self._identities[0]

    def close(self) -> None:
        """Close the database, with a checkpoint if the disk allows it."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.close()

    def _prepare(self, *, check: bool) -> None:
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError(f"no write-ahead log, journal mode is {mode}")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._connection.execute("PRAGMA synchronous = OFF")
        version = self._value("PRAGMA user_version")
        if version == 0:
            self._connection.executescript(SCHEMA)
        elif version != SCHEMA_VERSION:
            raise StoreDamaged(f"schema version {version}, must be {SCHEMA_VERSION}")
        elif check:
            self._check()

    def _check(self) -> None:
        """Check the whole file.

        Raises:
            StoreDamaged: SQLite finds damage, an event has a wrong checksum, or SQLite ignored
                transactions in the log after a broken frame.
        """
        if (found := self._value("PRAGMA quick_check(1)")) != "ok":
            raise StoreDamaged(str(found))
        self._connection.create_function("checksum", 4, checksum, deterministic=True)
        wrong = "checksum IS NOT checksum(sequence, created, running, payload)"
        if number := self._value(f"SELECT count(*) FROM events WHERE {wrong}"):  # noqa: S608
            raise StoreDamaged(f"{number} events with a wrong checksum")
        frames = self._checkpoint("PASSIVE")
        if number := self._ignored_transactions(frames):
            raise StoreDamaged(f"{number} transactions after a broken frame of the log")
        self.empty_log()

    def _ignored_transactions(self, frames_read: int) -> int:
        """Count complete transactions of the log after the frames that SQLite has read."""
        frame_bytes = FRAME_HEADER_BYTES + int(self._value("PRAGMA page_size"))
        ignored = 0
        with self._wal.open("rb") as log:
            salt = log.read(WAL_HEADER_BYTES)[WAL_SALT]
            log.seek(WAL_HEADER_BYTES + frames_read * frame_bytes)
            while len(frame := log.read(frame_bytes)) == frame_bytes:
                # If SQLite read nothing, the header of the log can be the broken part.
                is_current = frame[FRAME_SALT] == salt or frames_read == 0
                ignored += is_current and any(frame[FRAME_COMMIT])
        return ignored

    def _checkpoint(self, mode: str) -> int:
        """Copy the log into the database, with fsync, and return its number of frames."""
        with translate_damage_errors(), self._synchronous():
            query = f"PRAGMA wal_checkpoint({mode})"
            _, frames, _ = self._connection.execute(query).fetchone()
            return max(0, int(frames))

    @contextlib.contextmanager
    def _synchronous(self) -> Iterator[None]:
        """Make SQLite call fsync."""
        self._connection.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA synchronous = OFF")

    def _value(self, query: str) -> Any:  # noqa: ANN401  # depends on the column
        (value,) = self._connection.execute(query).fetchone()
        return value


@contextlib.contextmanager
def translate_damage_errors() -> Iterator[None]:
    """Raise StoreDamaged for SQLite errors that a retry does not fix."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in PERMANENT_ERRORS:
            raise StoreDamaged(str(error)) from error
        raise
    except (TypeError, ValueError) as error:
        raise StoreDamaged(f"wrong type in a column: {error}") from error


def read_intact_events(path: Path) -> Generator[QueuedEvent, None, None]:
    """Read the intact events of a damaged database, in order.

    An error skips one sequence number, as other pages of the file can be intact.
    """
    query = "SELECT * FROM events WHERE sequence > ? ORDER BY sequence"
    last = skipped = 0
    with _opened_damaged(path) as damaged:
        while skipped < MAX_UNREADABLE:
            try:
                for row in damaged.execute(query, [last + skipped]):
                    if row[0] > last and _is_intact(row):
                        last, created, _, payload, _ = row
                        skipped = 0
                        yield QueuedEvent(last, created, payload)
            except sqlite3.Error:
                skipped += 1
            else:
                return


def last_number(path: Path) -> int:
    """The last used sequence number in a damaged database; 0 if it is unreadable."""
    try:
        with _opened_damaged(path) as damaged:
            return max(0, int(*damaged.execute("SELECT last FROM counter").fetchone()))
    except (sqlite3.Error, TypeError, ValueError):
        return 0


@contextlib.contextmanager
def _opened_damaged(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, LOCK_TIMEOUT_S)) as damaged:
        damaged.text_factory = bytes  # a flipped bit can turn a payload into invalid text
        with contextlib.suppress(sqlite3.Error):
            damaged.execute("PRAGMA locking_mode = EXCLUSIVE")
        yield damaged


def _is_intact(row: Sequence[Any]) -> bool:
    try:
        *values, expected = row
        return bool(checksum(*values) == expected)
    except (TypeError, ValueError, struct.error):
        return False


def checksum(sequence: int, created: float, running: float, payload: bytes) -> int:
    """CRC-32 of an event's columns."""
    return zlib.crc32(payload, zlib.crc32(struct.pack("<qdd", sequence, created, running)))


def _identity(file: Path) -> tuple[int, int] | None:
    """Device and inode of the file at a path; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _create_private(path: Path) -> None:
    """Create the file, readable by its owner only; SQLite's other files get the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


OpenStore = Callable[..., EventStore]
"""Opens a database, with the arguments of `EventStore`."""


@dataclass(frozen=True)
class NewDatabase:
    """A complete database that is not in place yet."""

    kept: Path
    """Where the files at the path will be."""
    count: int
    last: int
    """Last used sequence number."""


class Replacement:
    """Replaces the database by a new one. A process that is killed at any moment loses no event.

    The new database is `PATH.new` while it is incomplete, and then `PATH.REASON-TIME.new`. From
    that moment on it counts, and the next start puts it in place if this one does not. The files
    that were in place become `PATH.REASON-TIME`.

    Args:
        path: the database.
        clock: the clock to use.
        open_store: opens a database.
    """

    def __init__(self, path: Path, clock: Clock, open_store: OpenStore) -> None:
        self._path = path
        self._clock = clock
        self._open_store = open_store

    def write(self, entries: Iterator[QueuedEvent], last: int, reason: str) -> NewDatabase:
        """Write a new database with these events and this last used sequence number.

        Raises:
            sqlite3.Error: it cannot be written now.
            OSError: likewise.
        """
        time = f"{self._clock.now():%Y%m%dT%H%M%SZ}"
        kept = self._path.with_name(f"{self._path.name}.{reason}-{time}")
        incomplete = _with_suffix(self._path, NEW_SUFFIX)
        self.discard()
        try:
            with contextlib.closing(self._open_store(incomplete, self._clock)) as store:
                while batch := list(islice(entries, COPY_BATCH)):
                    store.apply(batch)
                    store.checkpoint()
                store.apply(last=last)
                store.empty_log()
        except BaseException:
            with contextlib.suppress(OSError):
                self.discard()  # the disk can be full
            raise
        incomplete.rename(_with_suffix(kept, NEW_SUFFIX))
        return NewDatabase(kept, store.count, store.last)

    def finish(self) -> bool:
        """Put a complete new database in place, then delete what earlier replacements kept.

        Returns:
            Whether there was one.

        Raises:
            OSError: that does not work now; the next call continues it.
        """
        if (new := next(self._complete(), None)) is None:
            return False
        kept = new.with_suffix("")
        # A power cut can otherwise undo one of these steps and keep a later one.
        sync(self._path.parent)
        self._move_to(kept)
        sync(self._path.parent)
        new.rename(self._path)
        if kept.exists():
            self._delete_earlier(kept)
        return True

    def discard(self) -> None:
        """Delete what is not in place.

        Raises:
            OSError: that does not work now.
        """
        for new in self._complete():
            new.unlink()
        for suffix in ("", *LOG_SUFFIXES):
            _with_suffix(self._path, NEW_SUFFIX + suffix).unlink(missing_ok=True)

    def _complete(self) -> Iterator[Path]:
        return self._path.parent.glob(f"{self._path.name}.*-*{NEW_SUFFIX}")

    def _move_to(self, kept: Path) -> None:
        """Rename the files at the path; the database last, as its log means nothing without it."""
        if self._path.exists():
            for suffix in (*LOG_SUFFIXES, ""):
                with contextlib.suppress(FileNotFoundError):
                    _with_suffix(self._path, suffix).rename(_with_suffix(kept, suffix))
        else:
            for suffix in LOG_SUFFIXES:
                _with_suffix(self._path, suffix).unlink(missing_ok=True)

    def _delete_earlier(self, kept: Path) -> None:
        reason, _, _ = kept.name.rpartition("-")
        for earlier in self._path.parent.glob(f"{reason}-*"):
            if not earlier.name.startswith(kept.name):
                with contextlib.suppress(OSError):
                    earlier.unlink()


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
