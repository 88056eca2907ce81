"""The event queue on disk, through failures of the disk and ends of the process."""

import errno
import fcntl
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial, wraps
from pathlib import Path

import pytest
from builders import event
from conftest import FakeClock
from disks import fill_up, small_disk
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from publishing.fixtures import (
    DAMAGED,
    DROPPING,
    DURABLE,
    MOVED,
    NO_LIMITS,
    NOT_DURABLE,
    Disk,
    Events,
    Logs,
    events_in,
    in_service,
)
from running import PATIENCE, STOP_LIMIT_WITH_WAITS, eventually

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.errors import StateInUse
from edge_daemon.publishing.event_queue import MAX_NEW, MAX_WINDOW, EventQueue
from edge_daemon.publishing.event_store import MAX_WAL_BYTES, EventStore, OpenStore, StoreDamaged
from edge_daemon.publishing.event_writer import (
    RETRY_INTERVAL_S,
    STEP_INTERVAL_S,
    STOP_TIMEOUT_S,
    SYNC_INTERVAL_S,
    EventWriter,
    QueueLimits,
)

FILE = "events-porch.sqlite"
AFTER_RETRY = RETRY_INTERVAL_S + 1


class JumpingClock(FakeClock):
    """Its wall clock can be set apart from the monotonic one."""

    def __init__(self) -> None:
        super().__init__()
        self.jump = timedelta()

    def now(self) -> datetime:
        return super().now() + self.jump


@pytest.fixture
def jumping() -> JumpingClock:
    return JumpingClock()


def held(folder: Path) -> list[int]:
    """The numbers of the events in a folder, in order, as the next start finds them."""
    with (
        tempfile.TemporaryDirectory() as copy,
        events_in(Path(shutil.copytree(folder, Path(copy, "copy")))) as events,
    ):
        return events.deliver()


def test_writer_events_not_delivered_are_there_at_next_start(tmp_path: Path) -> None:
    with events_in(tmp_path) as events:
        events.add(1, 2, 3)
        events.deliver(1)
    with events_in(tmp_path) as events:
        assert events.queue.depth == 2
        assert events.deliver() == [2, 3]


def test_writer_sequence_continues_after_empty_queue(tmp_path: Path, clock: FakeClock) -> None:
    for first in (1, 3, 5):
        with events_in(tmp_path, clock=clock) as events:
            assert events.add(1, 2) == [first, first + 1]
            events.deliver()
            events.step()
            assert events.queue.depth == 0


def test_writer_second_daemon_is_refused(tmp_path: Path) -> None:
    with events_in(tmp_path), pytest.raises(StateInUse) as refused, events_in(tmp_path):
        pass
    assert refused.value.exit_code == 1  # systemd restarts it, as the other process may end
    with events_in(tmp_path) as events:
        events.add(1)
        queue = EventQueue(SystemClock(), lambda: None)
        other = EventWriter(queue, tmp_path / "events-garden.sqlite", NO_LIMITS, SystemClock())
        assert (queue.depth, events.queue.depth) == (0, 1)
        other.close()


def test_writer_folder_without_locks_is_not_a_second_daemon(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with events_in(tmp_path, clock=clock) as events:
        events.add(1)
        assert (events.queue.is_durable, events.queue.depth) == (False, 1)
        monkeypatch.undo()
        events.step(AFTER_RETRY)
        assert events.queue.is_durable


def test_writer_files_are_private(tmp_path: Path) -> None:
    with events_in(tmp_path) as events:
        events.add(1)
        assert {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {0}


def test_writer_leaves_no_shared_memory_file(tmp_path: Path) -> None:
    """A shared-memory file that is truncated kills a process with SIGBUS."""
    with events_in(tmp_path) as events:
        events.add(1)
        assert not (tmp_path / f"{FILE}-shm").exists()
        (tmp_path / f"{FILE}-shm").write_bytes(b"")
        assert events.add(2) == [2]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 5)),
        st.tuples(st.just("deliver"), st.integers(1, 7)),
        st.tuples(st.just("step"), st.sampled_from([0.5, 2.0, 10.0])),
        st.tuples(st.sampled_from(["crash", "reopen", "fail", "move"]), st.just(0)),
    ),
    max_size=30,
)


class Model:
    """A queue through failures, next to a list of what it must hold."""

    def __init__(self, folder: Path) -> None:
        self._folders = (folder / str(number) for number in itertools.count())
        self._folder = next(self._folders)
        self._clock = FakeClock()
        self._numbers = itertools.count(1)
        self._is_failing = False
        self._expected: list[int] = []
        self._open()

    def _open(self) -> None:
        self._context = events_in(self._folder, clock=self._clock)
        self._events: Events = self._context.__enter__()

    def append(self, count: int) -> None:
        for number in itertools.islice(self._numbers, count):
            assert self._events.add(number) == [number]
            self._expected.append(number)

    def deliver(self, count: int) -> None:
        delivered = self._events.deliver(count)
        expected = [number for number in delivered if number in self._expected]
        assert expected == self._expected[: len(expected)]  # a crash can repeat earlier ones
        self._expected = [number for number in self._expected if number not in delivered]

    def step(self, seconds: float) -> None:
        self._events.step(seconds)
        if seconds > RETRY_INTERVAL_S:
            self._is_failing = False

    def crash(self, _: int) -> None:
        """Start from a copy of the files, as a killed process leaves them."""
        if not self._is_failing:
            old, self._folder = self._folder, next(self._folders)
            shutil.copytree(old, self._folder)
            self._context.__exit__(None, None, None)
            self._open()

    def reopen(self, _: int) -> None:
        if not self._is_failing:
            self._context.__exit__(None, None, None)
            self._open()

    def fail(self, _: int) -> None:
        if (store := self._events.writer._store) is not None:
            store._connection.close()
            self._events.step()
            self._is_failing = True

    def move(self, _: int) -> None:
        if not self._is_failing:
            self._folder.rename(next(self._folders))
            self._events.step()

    def end(self) -> None:
        self.step(AFTER_RETRY)
        self.step(AFTER_RETRY)
        self.deliver(10**6)
        assert self._expected == []
        assert self._events.queue.depth == 0
        assert self._events.queue.status().dropped == 0
        self._context.__exit__(None, None, None)


@pytest.mark.slow
@hypothesis_settings(deadline=None, max_examples=60)
@given(actions)
def test_writer_any_failures_keep_order_and_events(steps: list[tuple[str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Model(Path(folder))
        for action, value in steps:
            getattr(model, action)(value)
        model.end()


APPENDER = """
import sys
sys.path.insert(0, {tests!r})
from builders import event
from pathlib import Path
from publishing.fixtures import events_in
with events_in(Path({folder!r})) as events:
    for number in range(events.queue.last_sequence + 1, 10**9):
        print(events.add(number)[0], flush=True)
"""


def test_writer_killed_process_loses_no_saved_event(tmp_path: Path) -> None:
    program = APPENDER.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    saved = 0
    for lines in (1, 20, 200):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in itertools.islice(process.stdout, lines):
                saved = int(line)
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:
                saved = int(line)
        numbers = held(tmp_path)
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= saved


def test_writer_copy_of_folder_at_any_moment_holds_all_events(tmp_path: Path) -> None:
    live, stopping, saved = tmp_path / "live", threading.Event(), [0]
    with events_in(live) as events:

        def work() -> None:
            # No more than the log holds: a copy is incomplete while that is emptied.
            for number in range(1, 400):
                saved[:] = events.add(number)
                if stopping.wait(random.uniform(0, 0.003)):
                    return

        worker = threading.Thread(target=work)
        worker.start()
        try:
            for _ in range(15):
                time.sleep(random.uniform(0, 0.05))
                least = saved[0]
                numbers = held(live)
                assert numbers == list(range(1, len(numbers) + 1))
                assert len(numbers) >= least
        finally:
            stopping.set()
            worker.join(PATIENCE)


def test_writer_syncs_once_a_second_and_only_after_changes(
    tmp_path: Path, clock: FakeClock
) -> None:
    disk = Disk()
    with events_in(tmp_path, clock=clock, open_store=disk.open) as events:
        for number in range(100):
            events.add(number)
            events.step(0.1)
        assert 9 <= disk.syncs <= 11
        events.step(SYNC_INTERVAL_S)
        settled = disk.syncs
        for _ in range(10):
            events.step(SYNC_INTERVAL_S)
        assert disk.syncs == settled


def test_writer_long_log_is_copied_and_emptied(tmp_path: Path, clock: FakeClock) -> None:
    log = tmp_path / f"{FILE}-wal"
    with events_in(tmp_path, clock=clock) as events:
        count = 0
        while log.stat().st_size <= MAX_WAL_BYTES:
            count += 1
            events.add(count)
        events.step()
        assert log.stat().st_size == 0
        events.add(count + 1)
        assert held(tmp_path) == list(range(1, count + 2))


def test_writer_too_many_events_drops_oldest(tmp_path: Path, clock: FakeClock, logs: Logs) -> None:
    with events_in(tmp_path, QueueLimits(10, 1e9), clock) as events:
        for first in (1, 21, 41):
            events.add(*range(first, first + 20))
            events.step()
        assert (events.queue.status().dropped, events.queue.depth) == (50, 10)
        assert len(logs.of(DROPPING)) == 1
        assert events.deliver() == list(range(51, 61))
        events.add(*range(61, 80))
        events.step()
        assert len(logs.of(DROPPING)) == 2
        assert events.add(80) == [80]


def test_writer_old_events_are_dropped(tmp_path: Path, jumping: JumpingClock, logs: Logs) -> None:
    with events_in(tmp_path, QueueLimits(10**6, 3600), jumping) as events:
        events.add(1, 2)
        events.step(1800)
        events.add(3)
        events.step(1799)
        assert events.queue.depth == 3
        events.step(2)
        assert events.queue.status().dropped == 2
        assert held(tmp_path) == [3]
        events.step(3600)
        assert events.deliver() == []
        assert len(logs.of(DROPPING)) == 1


def test_writer_age_counts_only_while_running(tmp_path: Path, jumping: JumpingClock) -> None:
    limits = QueueLimits(10**6, 3600)
    with events_in(tmp_path, limits, jumping) as events:
        events.add(1)
        events.step(3000)
        events.add(2)
    jumping.seconds += 10**7
    with events_in(tmp_path, limits, jumping) as events:
        events.step(599)
        assert events.queue.depth == 2
        events.step(2)
        assert events.deliver() == [2]


@pytest.mark.parametrize("days", [-4000, -1, 1, 4000])
def test_writer_wall_clock_jump_drops_nothing(
    tmp_path: Path, jumping: JumpingClock, days: int
) -> None:
    limits = QueueLimits(10**6, 3600)
    with events_in(tmp_path, limits, jumping) as events:
        events.add(1)
        jumping.jump = timedelta(days=days)
        events.add(2)
        events.step(10)
        assert events.queue.status().oldest_age_s == (10 if days > 0 else 0)
    with events_in(tmp_path, limits, jumping) as events:
        events.step(10)
        assert events.queue.status().oldest_age_s >= 0
        assert events.deliver() == [1, 2]


def test_writer_full_disk_keeps_events_in_memory(
    tmp_path: Path, clock: FakeClock, logs: Logs
) -> None:
    with small_disk(tmp_path / "disk") as disk, events_in(disk, clock=clock) as events:
        events.add(1, 2)
        ballast = fill_up(disk)
        events.add(*range(3, 40))
        for number in range(40, 45):
            events.add(number)
            events.step(AFTER_RETRY)
        assert not events.queue.status().durable
        assert events.deliver(20) == list(range(1, 21))  # from the disk, then from memory
        ballast.unlink()
        events.step(AFTER_RETRY)
        assert events.queue.status().durable
        assert events.add(45) == [45]
        assert held(disk)[-25:] == list(range(21, 46))
        assert events.deliver() == list(range(21, 46))
        events.step(AFTER_RETRY)
        assert logs.warnings() == [NOT_DURABLE]
        assert len(logs.of(DURABLE)) == 1


def test_writer_numbers_delivered_from_memory_are_not_reused(
    tmp_path: Path, clock: FakeClock
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with events_in(disk, clock=clock) as events:
            ballast = fill_up(disk)
            for number in range(1, 40):
                events.add(number)
                events.step(AFTER_RETRY)
            assert events.deliver() == list(range(1, 40))
            ballast.unlink()
            events.step(AFTER_RETRY)
        with events_in(disk, clock=clock) as events:
            assert events.deliver() == []
            assert events.add(1) == [40]


def test_writer_read_only_disk_at_start_keeps_working(
    tmp_path: Path, clock: FakeClock, logs: Logs
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with events_in(disk) as events:
            events.add(1, 2, 3)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with events_in(disk, clock=clock) as events:
            assert logs.of(NOT_DURABLE)[0]["next"] == 1
            assert events.add(11, 12) == [1, 2]
            assert events.deliver(1) == [11]
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            events.step(AFTER_RETRY)
            assert events.queue.status().durable
            assert events.add(13) == [5]  # after the three on disk, and the one in memory
            assert events.deliver() == [1, 2, 3, 12, 13]


def test_writer_memory_without_disk_is_bounded(
    tmp_path: Path, clock: FakeClock, logs: Logs
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with events_in(blocked / "state", clock=clock) as events:
        events.add(*range(1, MAX_NEW + 11))
        assert events.deliver() == list(range(11, MAX_NEW + 11))
        assert events.queue.status().dropped == 10
        assert len(logs.of(DROPPING)) == 1


def always_damaged(_path: Path, _clock: Clock, *, check: bool = False) -> EventStore:
    raise StoreDamaged(f"always, also without check={check}")


@pytest.mark.parametrize("open_store", [EventStore, always_damaged])
def test_writer_failing_disk_is_tried_at_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_store: OpenStore
) -> None:
    folder = tmp_path / "file" / "state"
    if open_store is EventStore:
        folder.parent.touch()
    steps: list[float] = []

    def step(writer: EventWriter) -> None:
        steps.append(time.monotonic())
        EventWriter.step(writer)

    with events_in(folder, open_store=open_store) as events:
        monkeypatch.setattr(events.writer, "step", partial(step, events.writer))
        with in_service(events.writer):
            events.queue.append(event(), 1.0)
            time.sleep(1.2)
            assert not events.queue.is_durable
            assert len(steps) < 10
            events.queue.close()
            closed = time.monotonic()
        assert time.monotonic() - closed < STEP_INTERVAL_S + STOP_LIMIT_WITH_WAITS


def remove(state: Path) -> None:
    shutil.rmtree(state)


def rename(state: Path) -> None:
    state.rename(state.with_name("backup"))


def remove_files(state: Path) -> None:
    for file in state.iterdir():
        file.unlink()


def replace_database(state: Path) -> None:
    other = state.with_name("other")
    with events_in(other) as events:
        events.add(77)
    shutil.copy(other / FILE, state / "new")
    (state / "new").rename(state / FILE)


def remove_log(state: Path) -> None:
    (state / f"{FILE}-wal").unlink()


@pytest.mark.parametrize("fault", [remove, rename, remove_files, replace_database, remove_log])
def test_writer_moved_database_is_written_again(
    tmp_path: Path, clock: FakeClock, logs: Logs, fault: Callable[[Path], None]
) -> None:
    state = tmp_path / "state"
    with events_in(state, clock=clock) as events:
        events.add(1, 2, 3)
        events.deliver(1)
        events.step(0.1)
        fault(state)
        events.step(0.1)
        assert len(logs.of(MOVED)) == 1
        with pytest.raises(StateInUse), events_in(state):
            pass
        assert events.add(4) == [4]
        assert events.queue.status().durable
        assert held(state) == [2, 3, 4]
        assert events.deliver() == [2, 3, 4]
    with events_in(state) as events:
        assert events.add(5) == [5]


def test_writer_moved_database_of_second_daemon_is_not_touched(
    tmp_path: Path, clock: FakeClock, logs: Logs
) -> None:
    """The folder is removed, and another daemon starts before this one notices."""
    state = tmp_path / "state"
    with events_in(state, clock=clock) as events:
        events.add(1, 2)
        shutil.rmtree(state)
        with events_in(state) as other:
            other.add(71)
            events.step(AFTER_RETRY)
            assert not events.queue.status().durable
            assert other.add(72) == [2]
        events.step(AFTER_RETRY)
        assert events.deliver() == [1, 2]
        assert events.queue.status().durable


def test_writer_file_locked_by_other_program_is_retried(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.publishing.event_store.LOCK_TIMEOUT_S", 0.01)
    with events_in(tmp_path):
        pass
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with events_in(tmp_path, clock=clock) as events:
        events.add(1, 2)
        assert not events.queue.status().durable
        other.rollback()
        other.close()
        events.step(AFTER_RETRY)
        assert events.queue.status().durable
        assert events.deliver() == [1, 2]


PAGE = 4096


def overwrite(file: Path, content: bytes, at: int = 0) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


def change_version(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def drop_table(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE events")
    connection.close()


def empty_counter(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM counter")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "salvaged", "next_sequence"),
    [
        (lambda file: file.write_bytes(b"This is no database." * 500), [], 1),
        (lambda file: overwrite(file, b"\x00" * 64), [], 1),
        (change_version, list(range(1, 301)), 301),
        (drop_table, [], 301),
        (empty_counter, list(range(1, 301)), 301),
    ],
)
def test_writer_damaged_file_is_kept_and_replaced(
    tmp_path: Path,
    logs: Logs,
    damage: Callable[[Path], None],
    salvaged: list[int],
    next_sequence: int,
) -> None:
    with events_in(tmp_path) as events:
        events.add(*range(1, 301))
    damage(tmp_path / FILE)
    (tmp_path / f"{FILE}.damaged-earlier").touch()
    damaged = (tmp_path / FILE).read_bytes()
    with events_in(tmp_path, clock=FakeClock()) as events:
        assert events.add(400) == [next_sequence]
        assert events.deliver() == [*salvaged, 400]
    (aside,) = tmp_path.glob(f"{FILE}.damaged-2026*Z")
    assert aside.read_bytes() == damaged
    assert list(tmp_path.glob("*.damaged-earlier")) == []
    (warning,) = logs.of(DAMAGED)
    assert warning["kept"] == str(aside)
    assert (warning["salvaged"], warning["next"]) == (len(salvaged), next_sequence)


def test_writer_half_damaged_file_is_salvaged(tmp_path: Path, logs: Logs) -> None:
    with events_in(tmp_path) as events:
        events.add(*range(1, 301))
    size = (tmp_path / FILE).stat().st_size
    overwrite(tmp_path / FILE, b"\xff" * (size // 2), at=size // 2)
    with events_in(tmp_path) as events:
        (sequence,) = events.add(400)
        numbers = events.deliver()
        assert 50 < len(numbers) < 301
        assert numbers == sorted(numbers)
        assert sequence > numbers[-2]
    assert len(logs.of(DAMAGED)) == 1


def test_writer_events_around_broken_page_are_salvaged(tmp_path: Path, logs: Logs) -> None:
    with events_in(tmp_path) as events:
        events.add(*range(1, 301))
    size = (tmp_path / FILE).stat().st_size
    overwrite(tmp_path / FILE, b"\xff" * PAGE, at=size // PAGE // 2 * PAGE)
    with events_in(tmp_path) as events:
        lost = set(range(1, 301)) - set(events.deliver())
        assert 0 < len(lost) < 30
        assert lost == set(range(min(lost), max(lost) + 1))
        assert events.add(400) == [301]
    assert len(logs.of(DAMAGED)) == 1


@pytest.mark.parametrize("place", [0, 20, 32 + 8, 32 + 24 + 100])
def test_writer_ignored_part_of_log_is_reported(
    tmp_path: Path, filled: Path, logs: Logs, place: int
) -> None:
    state = Path(shutil.copytree(filled, tmp_path / "state"))
    overwrite(state / f"{FILE}-wal", b"\xff" * 4, at=place)
    with events_in(state) as events:
        assert events.deliver() == list(range(1, 101))
    assert len(logs.of(DAMAGED)) == 1


@pytest.mark.parametrize("replacement", [b"sbd", b"glad", b"\xff\xff\xff\xff\xff"])
def test_writer_event_with_flipped_bit_is_dropped(
    tmp_path: Path, logs: Logs, replacement: bytes
) -> None:
    with events_in(tmp_path) as events:
        events.add(*range(1, 11))
    file = tmp_path / FILE
    overwrite(file, replacement, at=file.read_bytes().index(b'"happy"') + 1)
    with events_in(tmp_path) as events:
        assert len(events.deliver()) == 9
        assert events.add(11) == [11]
    assert logs.of(DAMAGED)[0]["salvaged"] == 9


def test_writer_file_damaged_in_use_is_replaced(
    tmp_path: Path, clock: FakeClock, logs: Logs
) -> None:
    with events_in(tmp_path, clock=clock) as events:
        events.add(*range(1, 301))
        store = events.writer._store
        assert store is not None
        store.empty_log()
        overwrite(tmp_path / FILE, b"\xff" * (tmp_path / FILE).stat().st_size)
        store._connection.execute("PRAGMA shrink_memory")  # else its cache has the pages
        for number in range(301, 401):
            assert events.add(number) == [number]
            events.step(1)
        assert len(logs.of(DAMAGED)) == 1
        assert set(range(302, 401)) <= set(events.deliver())
        assert events.queue.status().durable


def test_writer_salvage_on_full_disk_is_repeated(
    tmp_path: Path, clock: FakeClock, logs: Logs
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        with events_in(disk) as events:
            events.add(*range(1, 301))
        change_version(disk / FILE)
        damaged = (disk / FILE).read_bytes()
        (disk / f"{FILE}.damaged-earlier").touch()
        ballast = fill_up(disk)
        with events_in(disk, clock=clock) as events:
            for _ in range(3):
                events.step(AFTER_RETRY)
            assert not events.queue.is_durable
            assert (disk / f"{FILE}.damaged-earlier").exists()
            ballast.unlink()
            events.step(AFTER_RETRY)
            assert events.queue.is_durable
            assert events.add(400) == [301]
            assert events.deliver() == [*range(1, 301), 400]
        (kept,) = disk.glob(f"{FILE}.*")
        assert kept.read_bytes() == damaged
    assert len(logs.of(DAMAGED)) == 1


@contextmanager
def calling_before_each_change(call: Callable[[], None]) -> Iterator[None]:
    """Call back before each change of the files of a queue."""

    def calling(method: Callable[..., object]) -> Callable[..., object]:
        @wraps(method)
        def wrapper(*args: object, **more: object) -> object:
            call()
            return method(*args, **more)

        return wrapper

    changes = [(EventStore, "apply"), (EventStore, "empty_log"), (os, "fsync")]
    changes += [(Path, "rename"), (Path, "unlink")]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in changes:
            patch.setattr(owner, name, calling(getattr(owner, name)))
        yield


@pytest.fixture
def damaged(tmp_path: Path, filled: Path) -> Path:
    """A queue with one damaged event of 200, half of them in the log, and an earlier one."""
    state = Path(shutil.copytree(filled, tmp_path / "state"))
    overwrite(state / FILE, b"sbd", at=(state / FILE).read_bytes().index(b'"happy"') + 1)
    (state / f"{FILE}.damaged-earlier").touch()
    return state


def test_writer_killed_at_any_step_of_salvage_loses_no_event(tmp_path: Path, damaged: Path) -> None:
    intact = held(damaged)
    assert len(intact) == 199
    copies: list[Path] = []

    def copy() -> None:
        copies.append(tmp_path / f"killed-{len(copies)}")
        shutil.copytree(damaged, copies[-1])

    with calling_before_each_change(copy), events_in(damaged):
        pass
    assert len(copies) > 10
    for killed in copies:
        with events_in(killed) as events:
            assert events.add(400) == [201]
            assert events.deliver() == [*intact, 400]
        assert list(killed.glob("*.new*")) == []


class Fault:
    """Fails once, at a step that it counts to."""

    def __init__(self, step: int) -> None:
        self.steps_left = step

    def __call__(self) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("step", range(1, 19))
def test_writer_fault_at_any_step_of_salvage_loses_no_event(
    damaged: Path, clock: FakeClock, logs: Logs, step: int
) -> None:
    intact, fault = held(damaged), Fault(step)
    logs.records.clear()
    with calling_before_each_change(fault), events_in(damaged, clock=clock) as events:
        events.step(AFTER_RETRY)
        events.step(AFTER_RETRY)
        assert events.queue.is_durable
        assert events.add(400) == [201]
        assert events.deliver() == [*intact, 400]
    assert fault.steps_left <= 0
    assert len(list(damaged.glob(f"{FILE}.damaged-*Z"))) == 1
    assert list(damaged.glob("*.new*")) == []
    assert len(logs.of(DAMAGED)) == 1


@pytest.mark.parametrize("step", range(1, 18))
def test_writer_fault_at_any_step_of_rewriting_keeps_both(
    tmp_path: Path, clock: FakeClock, step: int
) -> None:
    state, fault = tmp_path / "state", Fault(step)
    with events_in(state, clock=clock) as events:
        events.add(1, 2, 3)
        replace_database(state)
        other = (state / FILE).read_bytes()
        with calling_before_each_change(fault):
            events.step(0.1)
            events.step(AFTER_RETRY)
        assert fault.steps_left <= 0
        assert events.queue.is_durable
        assert events.add(4) == [4]
        assert events.deliver() == [1, 2, 3, 4]
    (kept,) = state.glob(f"{FILE}.replaced-*Z")
    assert kept.read_bytes() == other


@pytest.mark.slow
@hypothesis_settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    suffix=st.sampled_from(["", "-wal"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)), max_size=4),
)
def test_writer_any_damage_does_not_stop_the_queue(
    filled: Path, suffix: str, cut: float, flips: list[tuple[float, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        shutil.copytree(filled, state)
        file = state / f"{FILE}{suffix}"
        size = int(cut * file.stat().st_size)
        os.truncate(file, size)
        for place, noise in flips:
            overwrite(file, noise, at=int(place * size))
        clock = FakeClock()
        with events_in(state, clock=clock) as events:
            (first,) = events.add(1000)
            for _ in range(3):
                events.step(AFTER_RETRY)
            assert events.add(1001) == [first + 1]
            assert events.deliver()[-2:] == [1000, 1001]
            assert events.queue.status().durable


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a queue in use: a part in the database, a part in the log."""
    folder = tmp_path_factory.mktemp("filled")
    with events_in(folder / "live") as events:
        events.add(*range(1, 101))
        assert events.writer._store is not None
        events.writer._store.empty_log()
        events.add(*range(101, 151))
        events.add(*range(151, 201))
        return Path(shutil.copytree(folder / "live", folder / "copy"))


def test_writer_service_saves_new_events_and_stops(tmp_path: Path) -> None:
    with events_in(tmp_path) as events:
        with in_service(events.writer):
            events.queue.append(event(), 1.0)
            eventually(lambda: events.queue.head() is not None)
            events.queue.close()
        assert held(tmp_path) == [1]


def test_writer_service_stops_without_the_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.publishing.event_writer.STOP_TIMEOUT_S", 0.2)
    with events_in(tmp_path) as events:
        with in_service(events.writer) as (thread,):
            began = time.monotonic()
            events.writer.stop()
            thread.join(PATIENCE)
        assert time.monotonic() - began < STOP_TIMEOUT_S + STOP_LIMIT_WITH_WAITS


def test_writer_close_does_not_wait_for_hanging_service(tmp_path: Path) -> None:
    disk = Disk()
    with events_in(tmp_path, open_store=disk.open) as events, in_service(events.writer):
        disk.works.clear()
        events.queue.append(event(), 1.0)
        assert disk.hangs.wait(PATIENCE)
        events.writer.close()
        assert not events.queue.is_closed
        disk.works.set()
        events.queue.close()


def test_writer_full_disk_loads_all_saved_events(tmp_path: Path, clock: FakeClock) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk, events_in(disk, clock=clock) as events:
        events.add(*range(1, MAX_WINDOW + 101))
        events.step(AFTER_RETRY)
        fill_up(disk)
        for number in range(1000, 1100):  # uses up the space that is left in the files
            events.add(number)
            events.step(AFTER_RETRY)
        assert not events.queue.status().durable
        numbers = []
        for _ in range(20):
            numbers += events.deliver()
            events.step(AFTER_RETRY)
        assert numbers == [*range(1, MAX_WINDOW + 101), *range(1000, 1100)]
