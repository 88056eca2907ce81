"""The file in which events wait: a table in SQLite.

Each append is a commit to the write-ahead log without a sync: the system has the bytes, so a
killed process loses nothing. Against a power cut the log is synced now and then, and rarely
copied into the database proper (a checkpoint); both are left to whoever calls `sync` and
`checkpoint`, in a thread that has the time, and hold up nobody who appends meanwhile.
"""

import contextlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, NamedTuple

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.files import sync
from edge_daemon.publishing.write_ahead_log import ignored_commits

SCHEMA_VERSION: Final = 2

SCHEMA: Final = """
    BEGIN IMMEDIATE;
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        created REAL NOT NULL,  -- seconds since 1970 by the wall clock
        ran REAL NOT NULL,      -- seconds by the spool's own clock
        payload BLOB NOT NULL,
        checksum INTEGER NOT NULL  -- of all these, since SQLite does not notice a flipped bit
    );
    CREATE TABLE counter (last INTEGER NOT NULL);
    INSERT INTO counter VALUES (0);
    PRAGMA user_version = 2;
    COMMIT;
"""

LOCK_PATIENCE: Final = 0.25
"""Seconds to wait for another program that writes to the file, such as someone's sqlite3."""

LONG_LOG: Final = 4 * 1024 * 1024
"""Bytes of the write-ahead log after which it is time to copy it into the database."""

LONGEST_LOG: Final = 8 * LONG_LOG
"""Bytes after which it is emptied, even if that holds up an append for once."""

LASTING: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""Codes of errors that will not go away: of a broken file, or of one with other tables."""

WIDEST_DAMAGE: Final = 10_000
"""Unreadable sequence numbers in a row, behind which no event is looked for any more."""

UNREADABLE: Final = (sqlite3.Error, OSError, TypeError, ValueError)
"""What reading a damaged file may raise."""


class Damaged(Exception):
    """Raised when the file is not, or no longer, a spool that can be used."""


class Entry(NamedTuple):
    """An event that waits."""

    sequence: int
    created: float
    """Seconds since 1970, by the wall clock."""
    payload: bytes


class Spool:
    """An open spool. Save `sync` and `checkpoint`, its methods must be called under one lock.

    Its own clock, by which old events are dropped, runs only while a spool is open: neither a
    jump of the wall clock nor a month without power makes an event too old.

    Args:
        path: the file, made if it is not there.
        clock: where the time is read.
        check: look through the whole file for damage.

    Raises:
        Damaged: the file is of no use.
        sqlite3.Error: it cannot be opened or made now.
        OSError: likewise.
    """

    def __init__(self, path: Path, clock: Clock, *, check: bool = False) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._clock = clock
        self._commits = 0
        _make_private(path)
        self._connection = sqlite3.connect(
            path, LOCK_PATIENCE, isolation_level="IMMEDIATE", check_same_thread=False
        )
        try:
            with telling_damage():
                self._prepare(check=check)
                self.count = int(self._value("SELECT count(*) FROM events"))
                self.last = int(self._value("SELECT last FROM counter"))
                ran = float(self._value("SELECT coalesce(max(ran), 0) FROM events"))
            sync(path.parent)
        except BaseException:
            self._connection.close()
            raise
        self._began = clock.monotonic() - ran

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries, which come behind all that are there."""
        rows = [(entry.sequence, entry.created, self._ran, entry.payload) for entry in entries]
        self.advance(max(self.last, rows[-1][0]), rows)

    def advance(self, last: int, rows: Iterable[tuple[int, float, float, bytes]] = ()) -> None:
        """Remember that sequence numbers up to `last` are taken, also by events not stored."""
        checked = [(*row, checksum(*row)) for row in rows]
        with telling_damage(), self._connection as transaction:
            added = transaction.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", checked)
            transaction.execute("UPDATE counter SET last = ?", [last])
        self._commits += 1
        self.count += max(0, added.rowcount)
        self.last = last

    def after(self, sequence: int, limit: int) -> list[Entry]:
        """The first entries behind one, in order."""
        query = (
            "SELECT sequence, created, payload FROM events WHERE sequence > ? "
            "ORDER BY sequence LIMIT ?"
        )
        with telling_damage():
            return list(map(Entry._make, self._connection.execute(query, [sequence, limit])))

    def delete(self, sequences: Iterable[int]) -> None:
        rows = [(sequence,) for sequence in sequences]
        with telling_damage(), self._connection as transaction:
            done = transaction.executemany("DELETE FROM events WHERE sequence = ?", rows)
        self._commits += 1
        self.count -= max(0, done.rowcount)

    def delete_oldest(self, number: int) -> int:
        """Delete as many; how many there were."""
        return self._delete(
            "sequence IN (SELECT sequence FROM events ORDER BY sequence LIMIT ?)", number
        )

    def delete_older(self, seconds: float) -> int:
        """Delete what has waited for longer, by the spool's own clock; how many that were."""
        return self._delete(
            # No index is needed: the search ends at the first that has not.
            "sequence < coalesce("
            "(SELECT sequence FROM events WHERE ran >= ? ORDER BY sequence LIMIT 1), 1e18)",
            self._ran - seconds,
        )

    def sync(self) -> None:
        """Have all appends on the disk."""
        sync(self._log)

    @property
    def log_size(self) -> int:
        """Bytes of the write-ahead log."""
        return self._log.stat().st_size

    def checkpoint(self, lock: AbstractContextManager[object]) -> None:
        """Copy the log into the database and empty it, if nothing is appended meanwhile.

        The copying has syncs in it, so it is done without the lock that appends need; the reader
        keeps SQLite from beginning the copied log again. It must be cut off instead: without a
        sync in between, a power cut could leave old frames behind a new head.
        """
        commits = self._commits
        with telling_damage(), self._another() as reader, self._another() as copier:
            reader.execute("BEGIN")
            reader.execute("SELECT last FROM counter").fetchone()
            copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            with lock:
                reader.rollback()
                if self._commits == commits or self.log_size > LONGEST_LOG:
                    copier.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the file; what is in the log goes into the database, if it can."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.close()

    @property
    def _ran(self) -> float:
        return self._clock.monotonic() - self._began

    def _prepare(self, *, check: bool) -> None:
        (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError("the file system has no shared memory for SQLite")
        self._connection.execute("PRAGMA synchronous = OFF")  # we sync, not each commit
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        version = self._value("PRAGMA user_version")
        if version == 0:
            self._connection.executescript(SCHEMA)
        elif version != SCHEMA_VERSION:
            raise Damaged(f"its version is {version}, this program knows {SCHEMA_VERSION}")
        elif check:
            self._check()

    def _check(self) -> None:
        """Look through the whole file.

        Raises:
            Damaged: SQLite finds it damaged, cannot read all of its log, or an event is not what
                it was.
        """
        if (found := self._value("PRAGMA quick_check(1)")) != "ok":
            raise Damaged(str(found))
        self._connection.create_function("checksum", 4, checksum, deterministic=True)
        wrong = "checksum IS NOT checksum(sequence, created, ran, payload)"
        if number := self._value(f"SELECT count(*) FROM events WHERE {wrong}"):  # noqa: S608  # ours
            raise Damaged(f"events with a wrong checksum: {number}")
        if number := ignored_commits(self._path, self._value("PRAGMA page_size")):
            raise Damaged(f"transactions behind a break in the log: {number}")

    def _value(self, query: str) -> Any:  # noqa: ANN401  # whatever the column holds
        (value,) = self._connection.execute(query).fetchone()
        return value

    def _delete(self, condition: str, value: float) -> int:
        with telling_damage(), self._connection as transaction:
            done = transaction.execute(f"DELETE FROM events WHERE {condition}", [value])  # noqa: S608  # ours
        self._commits += 1
        self.count -= done.rowcount
        return done.rowcount

    def _another(self) -> AbstractContextManager[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(self._path, LOCK_PATIENCE, isolation_level=None))


@contextlib.contextmanager
def telling_damage() -> Iterator[None]:
    """Raises Damaged for those of SQLite's errors that will not go away."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in LASTING:
            raise Damaged(str(error)) from error
        raise
    except (TypeError, ValueError) as error:
        raise Damaged(f"a value is not of its kind: {error}") from error


def rescued(path: Path) -> Iterator[Entry]:
    """What can still be read of a damaged spool, in order, as it was written."""
    query = "SELECT * FROM events WHERE sequence > ? ORDER BY sequence"
    last = skipped = 0
    with contextlib.suppress(*UNREADABLE), contextlib.closing(sqlite3.connect(path, 0)) as damaged:
        damaged.text_factory = bytes  # a flipped bit can make a payload a text that is none
        while skipped < WIDEST_DAMAGE:
            try:
                for values in damaged.execute(query, [last + skipped]):
                    if values[0] > last and _is_whole(*values):
                        last, created, _, payload = values[:4]
                        skipped = 0
                        yield Entry(last, created, payload)
            except sqlite3.Error:
                skipped += 1  # some lie on a broken page, others behind it
            else:
                return


def checksum(sequence: int, created: float, ran: float, payload: bytes) -> int:
    """CRC-32 of an event's values."""
    return zlib.crc32(payload, zlib.crc32(struct.pack("<qdd", sequence, created, ran)))


def _is_whole(
    sequence: int, created: float, ran: float, payload: bytes, known: int | None = None
) -> bool:
    """Whether an event's values are those that were written; version 1 had no checksums."""
    try:
        return known in {None, checksum(sequence, created, ran, payload)}
    except (TypeError, struct.error):
        return False


def last_known(path: Path) -> int:
    """The last sequence number given, as far as a damaged spool tells; else 0."""
    with contextlib.suppress(*UNREADABLE), contextlib.closing(sqlite3.connect(path)) as connection:
        return max(0, int(*connection.execute("SELECT last FROM counter").fetchone()))
    return 0


def _make_private(path: Path) -> None:
    """Make the file, readable by its owner only, as SQLite's files beside it then are, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
