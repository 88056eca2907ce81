import itertools
import json
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
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from builders import event
from conftest import FakeClock
from disks import fill_up, small_disk
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from publishing.fixtures import NO_LIMITS, Told, outbox_in
from running import PATIENCE

from edge_daemon._lib.clock import SystemClock
from edge_daemon.errors import SettingsError
from edge_daemon.publishing.event_queue import (
    MOST_IN_MEMORY,
    RETRY_INTERVAL,
    TENDING_INTERVAL,
    Outbox,
    OutboxLimits,
)
from edge_daemon.publishing.event_store import LONG_LOG
from edge_daemon.schema import EventMessage

FILE = "events-porch.sqlite"
NOT_KEPT, KEPT_AGAIN = "cannot keep events on disk", "kept on disk again"
DAMAGED, DROPPING = "is damaged", "dropping the oldest"


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


def fill(outbox: Outbox, *numbers: int) -> list[int]:
    return [outbox.append(event(number=number), 1.0).sequence for number in numbers]


def waiting(outbox: Outbox) -> list[int]:
    """The numbers of the events that wait, in order."""
    entries = outbox.pending(0, 10**6)
    messages = [EventMessage.model_validate_json(entry.payload) for entry in entries]
    assert [message.sequence for message in messages] == [entry.sequence for entry in entries]
    return [message.event_id.int for message in messages]


def deliver(outbox: Outbox, number: int) -> None:
    for entry in outbox.pending(0, number):
        outbox.acknowledge(entry.sequence)


def tend_after(seconds: float, outbox: Outbox, clock: FakeClock) -> None:
    clock.seconds += seconds
    outbox.tend()


def test_events_wait_in_order_until_they_are_acknowledged(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        assert fill(outbox, 7, 8, 9) == [1, 2, 3]
        assert waiting(outbox) == [7, 8, 9]
        outbox.acknowledge(2)
        assert waiting(outbox) == [7, 9]
        assert [entry.sequence for entry in outbox.pending(1, 5)] == [3]
        assert outbox.depth == 2


def test_message_is_the_event_with_its_number_and_latency(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        outbox.append(event(), 1.0)
        message = outbox.append(event(number=2), 12.345)
        (_, entry) = outbox.pending(0, 2)
    assert (message.sequence, message.latency_ms, message.event_id.int) == (2, 12.3, 2)
    assert json.loads(entry.payload) == json.loads(message.model_dump_json(by_alias=True))
    assert json.loads(entry.payload)["schema"] == 1


def test_what_was_not_acknowledged_waits_at_the_next_start(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        fill(outbox, 1, 2, 3)
        deliver(outbox, 1)
    with outbox_in(tmp_path) as outbox:
        assert waiting(outbox) == [2, 3]
        assert outbox.depth == 2


def test_sequence_numbers_go_on_though_nothing_is_left(tmp_path: Path, clock: FakeClock) -> None:
    for start in (1, 3, 5):
        with outbox_in(tmp_path, clock=clock) as outbox:
            assert fill(outbox, 1, 2) == [start, start + 1]
            deliver(outbox, 2)
            tend_after(2, outbox, clock)
            assert outbox.depth == 0


def test_two_daemons_cannot_share_an_outbox(tmp_path: Path) -> None:
    with outbox_in(tmp_path), pytest.raises(SettingsError, match="device_id or state_dir"):
        Outbox(tmp_path, "porch", NO_LIMITS, SystemClock())
    with outbox_in(tmp_path) as outbox:
        fill(outbox, 1)
        other = Outbox(tmp_path, "garden", NO_LIMITS, SystemClock())
        assert (other.depth, outbox.depth) == (0, 1)
        other.close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        fill(outbox, 1)
        assert {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {0}


actions = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 5)),
        st.tuples(st.just("deliver"), st.integers(1, 7)),
        st.tuples(st.just("tend"), st.sampled_from([0.5, 2.0, 10.0])),
        st.tuples(st.sampled_from(["crash", "reopen", "break"]), st.just(0)),
    ),
    max_size=30,
)


class Life:
    """An outbox through good and bad days, beside a list of what it should hold."""

    def __init__(self, folder: Path) -> None:
        self._folders = (folder / str(number) for number in itertools.count())
        self._folder = next(self._folders)
        self._clock = FakeClock()
        self._numbers = itertools.count(1)
        self._broken = False
        self._expected: list[int] = []
        self._outbox = self._open()

    def _open(self) -> Outbox:
        return Outbox(self._folder, "porch", NO_LIMITS, self._clock)

    def append(self, count: int) -> None:
        for number in itertools.islice(self._numbers, count):
            assert fill(self._outbox, number) == [number]
            self._expected.append(number)

    def deliver(self, count: int) -> None:
        delivered = waiting(self._outbox)[:count]
        for entry in self._outbox.pending(0, count):
            self._outbox.acknowledge(entry.sequence)
        self._expected = [number for number in self._expected if number not in delivered]

    def tend(self, seconds: float) -> None:
        tend_after(seconds, self._outbox, self._clock)
        if seconds > RETRY_INTERVAL:
            self._broken = False

    def crash(self, _: int) -> None:
        """What a killed process leaves behind is what is in its files."""
        if self._broken:
            return
        old, self._folder = self._folder, next(self._folders)
        shutil.copytree(old, self._folder)
        self._outbox.close()
        self._outbox = self._open()

    def reopen(self, _: int) -> None:
        if not self._broken:
            self._outbox.close()
            self._outbox = self._open()

    def break_(self, _: int) -> None:
        if self._outbox._spool is not None:
            self._outbox._spool._connection.close()
            self._outbox.pending(0, 1)
            self._broken = True

    def check(self) -> None:
        if not self._broken:
            held = waiting(self._outbox)
            # After a crash, those whose acknowledgement was not noted yet are sent once more.
            assert [number for number in held if number in self._expected] == self._expected
            assert held == sorted(held)

    def end(self) -> None:
        self.tend(10.0)
        self.check()
        self._outbox.close()


@hypothesis_settings(deadline=None, max_examples=60)
@given(actions)
def test_whatever_happens_order_is_kept_and_nothing_lost(steps: list[tuple[str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder))
        for action, value in steps:
            getattr(life, {"break": "break_"}.get(action, action))(value)
            life.check()
        life.end()


APPENDER = """
import sys
sys.path.insert(0, {tests!r})
from builders import event
from pathlib import Path
from edge_daemon._lib.clock import SystemClock
from edge_daemon.publishing.event_queue import Outbox, OutboxLimits
outbox = Outbox(Path({folder!r}), "porch", OutboxLimits(10**9, 1e9), SystemClock())
number = outbox.last_sequence
while True:
    number += 1
    print(outbox.append(event(number=number), 1.0).sequence, flush=True)
    outbox.tend()
"""


def test_killed_process_loses_nothing_that_it_had_told(tmp_path: Path) -> None:
    program = APPENDER.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    told = 0
    for lines in (1, 20, 200):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in itertools.islice(process.stdout, lines):
                told = int(line)
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:
                told = int(line)
        with outbox_in(tmp_path) as outbox:
            held = waiting(outbox)
            assert held == list(range(1, len(held) + 1))
            assert len(held) >= told


def test_copy_of_the_folder_at_any_moment_holds_all_that_was_appended(tmp_path: Path) -> None:
    live, stopping, appended = tmp_path / "live", threading.Event(), [0]
    with outbox_in(live) as outbox:

        def work() -> None:
            for number in itertools.count(1):
                appended[:] = fill(outbox, number)
                outbox.tend()
                if stopping.wait(random.uniform(0, 0.003)):
                    return

        worker = threading.Thread(target=work)
        worker.start()
        try:
            for number in range(15):
                time.sleep(random.uniform(0, 0.05))
                least = appended[0]
                shutil.copytree(live, tmp_path / str(number))
                with outbox_in(tmp_path / str(number)) as copy:
                    held = waiting(copy)
                    assert held == list(range(1, len(held) + 1))
                    assert len(held) >= least
                    assert copy.last_sequence == len(held)
        finally:
            stopping.set()
            worker.join(PATIENCE)


class Syncs:
    """Counts syncs of files, and notes in which threads they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.threads: set[threading.Thread] = set()
        self._really = os.fsync
        monkeypatch.setattr("os.fsync", self._sync)

    def _sync(self, descriptor: int) -> None:
        self.count += 1
        self.threads.add(threading.current_thread())
        self._really(descriptor)


def test_events_are_synced_once_a_second_at_most_and_only_by_who_tends(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with outbox_in(tmp_path, clock=clock) as outbox:
        syncs = Syncs(monkeypatch)
        for number in range(100):
            fill(outbox, number)
            before = syncs.count
            tending = threading.Thread(target=tend_after, args=(0.1, outbox, clock))
            tending.start()
            tending.join()
            assert syncs.count - before <= 1
        assert 9 <= syncs.count <= 11
        assert threading.current_thread() not in syncs.threads
        tend_after(TENDING_INTERVAL, outbox, clock)
        settled = syncs.count
        for _ in range(10):
            tend_after(TENDING_INTERVAL, outbox, clock)
        assert syncs.count == settled, "nothing was appended"


def test_long_log_is_copied_and_cut_off(tmp_path: Path, clock: FakeClock) -> None:
    log = tmp_path / f"{FILE}-wal"
    with outbox_in(tmp_path, clock=clock) as outbox:
        count = 0
        while log.stat().st_size <= LONG_LOG:
            count += 1
            fill(outbox, count)
        tend_after(2, outbox, clock)
        assert log.stat().st_size == 0
        fill(outbox, count + 1)
        shutil.copytree(tmp_path, tmp_path / "copy")
        assert waiting(outbox) == list(range(1, count + 2))
    with outbox_in(tmp_path / "copy") as outbox:
        assert waiting(outbox) == list(range(1, count + 2))


def test_log_is_not_cut_off_under_events_that_came_meanwhile(
    tmp_path: Path, clock: FakeClock
) -> None:
    log = tmp_path / f"{FILE}-wal"
    with outbox_in(tmp_path, clock=clock) as outbox:
        fill(outbox, *range(1, 51))
        assert outbox._spool is not None

        class Meanwhile:
            """A lock that is had only after one more event."""

            def __enter__(self) -> None:
                fill(outbox, 51)

            def __exit__(self, *_: object) -> None:
                pass

        before = log.stat().st_size
        outbox._spool.checkpoint(Meanwhile())
        assert log.stat().st_size > before, "begun again, or cut off"
        shutil.copytree(tmp_path, tmp_path / "copy")
    with outbox_in(tmp_path / "copy") as outbox:
        assert waiting(outbox) == list(range(1, 52))


def test_too_many_events_drop_the_oldest_and_are_told_once(
    tmp_path: Path, clock: FakeClock, told: Told
) -> None:
    with outbox_in(tmp_path, OutboxLimits(events=10, age=1e9), clock) as outbox:
        for first in (1, 21, 41):
            fill(outbox, *range(first, first + 20))
            tend_after(2, outbox, clock)
        assert waiting(outbox) == list(range(51, 61))
        assert (outbox.figures().dropped, outbox.depth) == (50, 10)
        assert len(told.of(DROPPING)) == 1
        deliver(outbox, 10)
        tend_after(2, outbox, clock)
        assert told.wait_for("no events wait")["dropped"] == 50
        fill(outbox, *range(61, 80))
        tend_after(2, outbox, clock)
        assert len(told.of(DROPPING)) == 2
        assert fill(outbox, 80) == [80]


def test_events_that_waited_for_too_long_are_dropped(
    tmp_path: Path, jumping: JumpingClock, told: Told
) -> None:
    with outbox_in(tmp_path, OutboxLimits(events=10**6, age=3600), jumping) as outbox:
        fill(outbox, 1, 2)
        tend_after(1800, outbox, jumping)
        fill(outbox, 3)
        tend_after(1799, outbox, jumping)
        assert waiting(outbox) == [1, 2, 3]
        tend_after(2, outbox, jumping)
        assert waiting(outbox) == [3]
        assert outbox.figures().dropped == 2
        tend_after(3600, outbox, jumping)
        assert waiting(outbox) == []
        assert len(told.of(DROPPING)) == 1


def test_waiting_counts_over_restarts_but_not_while_no_daemon_runs(
    tmp_path: Path, jumping: JumpingClock
) -> None:
    limits = OutboxLimits(events=10**6, age=3600)
    with outbox_in(tmp_path, limits, jumping) as outbox:
        fill(outbox, 1)
        tend_after(3000, outbox, jumping)
        fill(outbox, 2)
    jumping.seconds += 10**7
    with outbox_in(tmp_path, limits, jumping) as outbox:
        tend_after(599, outbox, jumping)
        assert waiting(outbox) == [1, 2]
        tend_after(2, outbox, jumping)
        assert waiting(outbox) == [2]


@pytest.mark.parametrize("days", [-4000, -1, 1, 4000])
def test_clock_that_jumps_drops_nothing(tmp_path: Path, jumping: JumpingClock, days: int) -> None:
    limits = OutboxLimits(events=10**6, age=3600)
    with outbox_in(tmp_path, limits, jumping) as outbox:
        fill(outbox, 1)
        jumping.jump = timedelta(days=days)
        fill(outbox, 2)
        tend_after(10, outbox, jumping)
        assert waiting(outbox) == [1, 2]
        assert outbox.figures().oldest_age_s == max(0, 86400 * days + 10)
    with outbox_in(tmp_path, limits, jumping) as outbox:
        tend_after(10, outbox, jumping)
        assert waiting(outbox) == [1, 2]
        assert outbox.figures().oldest_age_s >= 0


def test_figures_tell_depth_and_age(tmp_path: Path, clock: FakeClock) -> None:
    with outbox_in(tmp_path, clock=clock) as outbox:
        assert outbox.figures().model_dump() == {
            "depth": 0,
            "oldest_age_s": 0.0,
            "dropped": 0,
            "durable": True,
        }
        fill(outbox, 1)
        clock.seconds += 12.34
        fill(outbox, 2)
        figures = outbox.figures()
        assert (figures.depth, figures.oldest_age_s) == (2, 12.3)
        deliver(outbox, 1)
        figures = outbox.figures()
        assert (figures.depth, figures.oldest_age_s) == (1, 0.0)


def test_full_disk_holds_up_no_event_and_heals_by_itself(
    tmp_path: Path, clock: FakeClock, told: Told
) -> None:
    with small_disk(tmp_path / "disk") as disk, outbox_in(disk, clock=clock) as outbox:
        fill(outbox, 1, 2)
        ballast = fill_up(disk)
        fill(outbox, *range(3, 40))
        for _ in range(5):
            tend_after(RETRY_INTERVAL + 1, outbox, clock)
        assert not outbox.figures().durable
        deliver(outbox, 20)  # of the disk and of memory
        fill(outbox, 40)
        ballast.unlink()
        tend_after(RETRY_INTERVAL + 1, outbox, clock)
        assert outbox.figures().durable
        assert waiting(outbox) == list(range(21, 41))
        assert fill(outbox, 41) == [41]
        assert told.warnings() == [told.of(NOT_KEPT)[0]["msg"]]
        assert "full" in str(told.of(NOT_KEPT)[0]["error"])
        assert len(told.of(KEPT_AGAIN)) == 1
        shutil.copytree(disk, tmp_path / "copy")
    with outbox_in(tmp_path / "copy") as outbox:
        assert waiting(outbox)[-21:] == list(range(21, 42))


def test_events_delivered_while_the_disk_was_full_use_up_their_numbers(
    tmp_path: Path, clock: FakeClock
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with outbox_in(disk, clock=clock) as outbox:
            ballast = fill_up(disk)
            fill(outbox, *range(1, 40))
            deliver(outbox, 40)
            ballast.unlink()
            tend_after(RETRY_INTERVAL + 1, outbox, clock)
            assert outbox.figures().durable
        with outbox_in(disk, clock=clock) as outbox:
            assert waiting(outbox) == []
            assert fill(outbox, 1) == [40]


def test_read_only_disk_at_the_start_holds_up_nothing(
    tmp_path: Path, clock: FakeClock, told: Told
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with outbox_in(disk) as outbox:
            fill(outbox, 1, 2, 3)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with outbox_in(disk, clock=clock) as outbox:
            assert told.of(NOT_KEPT)[0]["next"] == 1
            assert fill(outbox, 11, 12) == [1, 2]
            assert waiting(outbox) == [11, 12]
            assert not outbox.figures().durable
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            tend_after(RETRY_INTERVAL + 1, outbox, clock)
            assert sorted(waiting(outbox)) == [1, 2, 3, 11, 12]
            assert fill(outbox, 13) == [4]
            deliver(outbox, 6)
            tend_after(2, outbox, clock)
            assert outbox.figures().durable
            assert told.wait_for(KEPT_AGAIN)
            assert fill(outbox, 14) == [5]


def test_memory_is_bounded_too(tmp_path: Path, clock: FakeClock, told: Told) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with outbox_in(blocked / "state", clock=clock) as outbox:
        fill(outbox, *range(1, MOST_IN_MEMORY + 11))
        assert waiting(outbox) == list(range(11, MOST_IN_MEMORY + 11))
        assert outbox.figures().dropped == 10
        assert len(told.of(DROPPING)) == 1


def test_folder_that_vanishes_is_made_anew(tmp_path: Path, clock: FakeClock) -> None:
    state = tmp_path / "state"
    with outbox_in(state, clock=clock) as outbox:
        fill(outbox, 1)
        shutil.rmtree(state)
        fill(outbox, 2)
        for _ in range(2):
            tend_after(RETRY_INTERVAL + 1, outbox, clock)
        assert fill(outbox, 3) == [3]
        assert outbox.figures().durable
    with outbox_in(state) as outbox:
        assert waiting(outbox) == [3]


def test_file_held_by_another_program_holds_up_nothing(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.publishing.event_store.LOCK_PATIENCE", 0.01)
    with outbox_in(tmp_path, clock=clock) as outbox:
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        fill(outbox, 1, 2)
        tend_after(RETRY_INTERVAL + 1, outbox, clock)
        assert waiting(outbox) == [1, 2]
        other.rollback()
        other.close()
        tend_after(RETRY_INTERVAL + 1, outbox, clock)
        assert outbox.figures().durable
        assert waiting(outbox) == [1, 2]


PAGE = 4096


def overwrite(file: Path, content: bytes, at: int = 0) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


def give_another_version(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def drop_the_table(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE events")
    connection.close()


def empty_the_counter(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM counter")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "rescued", "next_sequence"),
    [
        (lambda file: file.write_bytes(b"This is no database." * 500), [], 1),
        (lambda file: overwrite(file, b"\x00" * 64), [], 1),
        (give_another_version, list(range(1, 301)), 301),
        (drop_the_table, [], 301),
        (empty_the_counter, list(range(1, 301)), 301),
    ],
)
def test_damaged_file_is_kept_aside_and_a_new_one_begun(
    tmp_path: Path,
    told: Told,
    damage: Callable[[Path], None],
    rescued: list[int],
    next_sequence: int,
) -> None:
    with outbox_in(tmp_path) as outbox:
        fill(outbox, *range(1, 301))
    damage(tmp_path / FILE)
    (tmp_path / f"{FILE}.damaged-earlier").touch()
    damaged = (tmp_path / FILE).read_bytes()
    with outbox_in(tmp_path, clock=FakeClock()) as outbox:
        assert waiting(outbox) == rescued
        assert fill(outbox, 400) == [next_sequence]
    (aside,) = tmp_path.glob(f"{FILE}.damaged-2026*Z")
    assert aside.read_bytes() == damaged
    assert list(tmp_path.glob("*.damaged-earlier")) == []
    (warning,) = told.of(DAMAGED)
    assert warning["kept"] == str(aside)
    assert (warning["rescued"], warning["next"]) == (len(rescued), next_sequence)
    with outbox_in(tmp_path) as outbox:
        assert waiting(outbox) == [*rescued, 400]


def test_what_can_be_read_of_a_half_damaged_file_is_taken_over(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path) as outbox:
        fill(outbox, *range(1, 301))
    size = (tmp_path / FILE).stat().st_size
    overwrite(tmp_path / FILE, b"\xff" * (size // 2), at=size // 2)
    with outbox_in(tmp_path) as outbox:
        held = waiting(outbox)
        assert 50 < len(held) < 300
        assert held == sorted(held)
        assert fill(outbox, 400)[0] > max(held)
    assert len(told.of(DAMAGED)) == 1


def test_events_before_and_behind_a_broken_page_are_taken_over(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path) as outbox:
        fill(outbox, *range(1, 301))
    size = (tmp_path / FILE).stat().st_size
    overwrite(tmp_path / FILE, b"\xff" * PAGE, at=size // PAGE // 2 * PAGE)
    with outbox_in(tmp_path) as outbox:
        lost = set(range(1, 301)) - set(waiting(outbox))
        assert 0 < len(lost) < 30
        assert lost == set(range(min(lost), max(lost) + 1))
        assert fill(outbox, 400) == [301]
    assert len(told.of(DAMAGED)) == 1


@pytest.mark.parametrize("place", [0, 20, 32 + 8, 32 + 24 + 100])
def test_log_that_is_not_read_to_its_end_is_told(
    tmp_path: Path, spooled: Path, told: Told, place: int
) -> None:
    state = Path(shutil.copytree(spooled, tmp_path / "state"))
    overwrite(state / f"{FILE}-wal", b"\xff" * 4, at=place)
    with outbox_in(state) as outbox:
        assert waiting(outbox) == list(range(1, 101))
    assert "behind a break in the log" in str(told.of(DAMAGED)[0]["error"])


@pytest.mark.parametrize("replacement", [b"sbd", b"glad", b"\xff\xff\xff\xff\xff"])
def test_event_with_a_flipped_bit_is_given_up(
    tmp_path: Path, told: Told, replacement: bytes
) -> None:
    with outbox_in(tmp_path) as outbox:
        fill(outbox, *range(1, 11))
    file = tmp_path / FILE
    overwrite(file, replacement, at=file.read_bytes().index(b'"happy"') + 1)
    with outbox_in(tmp_path) as outbox:
        assert len(waiting(outbox)) == 9
        assert fill(outbox, 11) == [11]
    assert told.of(DAMAGED)[0]["rescued"] == 9


def test_spool_of_the_version_before_is_taken_over(tmp_path: Path, told: Told) -> None:
    with outbox_in(tmp_path) as outbox:
        fill(outbox, 1, 2, 3)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("ALTER TABLE events DROP COLUMN checksum")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with outbox_in(tmp_path) as outbox:
        assert waiting(outbox) == [1, 2, 3]
        assert fill(outbox, 4) == [4]
    assert told.of(DAMAGED)[0]["error"] == "its version is 1, this program knows 2"


def test_file_damaged_in_use_is_replaced_and_numbers_go_on(
    tmp_path: Path, clock: FakeClock, told: Told
) -> None:
    with outbox_in(tmp_path, clock=clock) as outbox:
        fill(outbox, *range(1, 301))
        assert outbox._spool is not None
        outbox._spool.checkpoint(outbox._lock)
        overwrite(tmp_path / FILE, b"\xff" * (tmp_path / FILE).stat().st_size)
        outbox._spool._connection.execute("PRAGMA shrink_memory")  # it remembers what was there
        for number in range(301, 401):
            assert fill(outbox, number) == [number]
            outbox.pending(0, 1000)
            tend_after(1, outbox, clock)
        assert len(told.of(DAMAGED)) == 1
        assert set(range(302, 401)) <= set(waiting(outbox))
        assert outbox.figures().durable


@hypothesis_settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    suffix=st.sampled_from(["", "-wal", "-shm"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)), max_size=4),
)
def test_no_damage_keeps_the_outbox_from_working(
    spooled: Path, suffix: str, cut: float, flips: list[tuple[float, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        shutil.copytree(spooled, state)
        file = state / f"{FILE}{suffix}"
        size = int(cut * file.stat().st_size)
        os.truncate(file, size)
        for place, noise in flips:
            overwrite(file, noise, at=int(place * size))
        clock = FakeClock()
        with outbox_in(state, clock=clock) as outbox:
            outbox.tend()
            first = fill(outbox, 1000)
            for _ in range(3):
                outbox.pending(0, 10**6)
                tend_after(RETRY_INTERVAL + 1, outbox, clock)
            assert fill(outbox, 1001) == [first[0] + 1]
            entries = outbox.pending(first[0] - 1, 10)
            assert [entry.sequence for entry in entries] == [first[0], first[0] + 1]
            assert outbox.figures().durable


@pytest.fixture(scope="module")
def spooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an outbox in use: a part in the database, a part in the log."""
    folder, clock = tmp_path_factory.mktemp("spooled"), FakeClock()
    with ExitStack() as resources:
        outbox = resources.enter_context(outbox_in(folder / "live", clock=clock))
        fill(outbox, *range(1, 101))
        assert outbox._spool is not None
        outbox._spool.checkpoint(outbox._lock)
        fill(outbox, *range(101, 201))
        return Path(shutil.copytree(folder / "live", folder / "copy"))


def test_append_is_a_write_to_memory_and_never_waits_for_the_disk(tmp_path: Path) -> None:
    with outbox_in(tmp_path) as outbox:
        fill(outbox, *range(100))
        began = time.monotonic()
        fill(outbox, *range(1000))
        assert (time.monotonic() - began) / 1000 < 0.005
