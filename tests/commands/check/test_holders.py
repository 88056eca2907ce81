import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import PATIENCE

from edge_daemon.commands.check import Process, ProcessTable

HOLD = "import sys; held = open(sys.argv[2]); print(flush=True); sys.stdin.read()"


@contextmanager
def holding(file: Path, *program: str) -> Iterator[int]:
    """A program that has a file open; its process id."""
    words = program or (sys.executable, "-c", HOLD, "holder")
    with subprocess.Popen([*words, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    file = tmp_path / "video0"
    file.touch()
    return file


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("/opt/edge-daemon/bin/python /opt/edge-daemon/bin/edge-daemon run --source 0", True),
        ("edge-daemon", True),
        ("python3 -X dev -m edge_daemon --source picamera", True),
        ("/usr/bin/python3 /usr/bin/edge-daemon check --source 0", False),
        ("journalctl -u edge-daemon", False),
        ("python3 other.py edge-daemon", False),
        ("ffplay /dev/video0", False),
        ("", False),
    ],
)
def test_process_is_recognised_by_its_command_line(line: str, ours: bool) -> None:  # noqa: FBT001
    assert Process(1, tuple(line.split())).ours is ours


def test_holders_lists_processes_with_the_file_open(device: Path) -> None:
    table = ProcessTable()
    assert table.holders([device]) == []
    with holding(device) as pid:
        (holder,) = table.holders([device, device.with_name("absent")])
        assert holder.pid == pid
        assert str(holder) == f"{Path(sys.executable).name} (process {pid})"
    assert table.holders([device]) == []


def fake_proc(folder: Path, locks: str | None, **lines: str) -> ProcessTable:
    for pid, line in lines.items():
        (folder / pid.removeprefix("p")).mkdir(parents=True)
        (folder / pid.removeprefix("p") / "cmdline").write_text(line.replace(" ", "\0") + "\0")
    if locks is not None:
        (folder / "locks").write_text(locks)
    return ProcessTable(folder)


def test_lockers_lists_processes_with_a_lock_on_the_file(tmp_path: Path, device: Path) -> None:
    status = device.stat()
    place = f"{status.st_dev >> 8 & 0xFFF:02x}:{status.st_dev & 0xFF:02x}:{status.st_ino}"
    locks = f"1: POSIX ADVISORY WRITE 7 {place} 0 EOF\n2: FLOCK ADVISORY WRITE 8 00:01:1 0 EOF\n"
    table = fake_proc(tmp_path / "proc", locks, p7="edge-daemon run", p8="other")
    (locker,) = table.lockers([device])
    assert (locker.pid, locker.ours) == (7, True)
    assert str(locker) == "edge-daemon (process 7)"
    assert table.lockers([tmp_path]) == []
    assert [process.pid for process in table.daemons()] == [7]


def test_process_table_without_locks_file_is_empty(tmp_path: Path, device: Path) -> None:
    table = fake_proc(tmp_path / "proc", None, p7="other")
    assert table.holders([device]) == table.lockers([device]) == []
