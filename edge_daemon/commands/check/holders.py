"""Which programs use a device, as far as this user may know."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROGRAM: Final = "edge-daemon"
MODULE: Final = "-m edge_daemon"

CAMERALESS: Final = frozenset({"check", "config", "models", "watch"})
"""Commands of this program that use no camera."""


@dataclass(frozen=True)
class Process:
    """A running program."""

    pid: int
    words: tuple[str, ...]
    """Its command line."""

    @property
    def ours(self) -> bool:
        """Whether it is this program, using a camera."""
        program, script, *_ = [*(Path(word).name for word in self.words), "", ""]
        by_python = program.startswith("python")
        as_script = by_python and script == PROGRAM
        as_module = by_python and MODULE in " ".join(self.words)
        named = program == PROGRAM or as_script or as_module
        return named and not CAMERALESS & set(self.words)

    def __str__(self) -> str:
        name = PROGRAM if self.ours else Path(self.words[0]).name
        return f"{name} (process {self.pid})"


class ProcessTable:
    """Other processes, from /proc. Only root can list other users' files."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def holders(self, devices: Collection[Path]) -> list[Process]:
        """Processes that have one of these files open."""
        identities = _identities(devices)
        return [
            process
            for process in self._others()
            if any(_identity(file) in identities for file in self._open_files(process.pid))
        ]

    def lockers(self, devices: Collection[Path]) -> list[Process]:
        """Processes that have locked one of these files; any user can list locks."""
        identities = _identities(devices)
        locked = {int(pid) for pid, file in self._locks() if file in identities}
        return [process for process in self._others() if process.pid in locked]

    def daemons(self) -> list[Process]:
        """Other processes of this program that use a camera."""
        return [process for process in self._others() if process.ours]

    def _others(self) -> Iterator[Process]:
        for entry in self._proc.iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue  # it has ended
            yield Process(int(entry.name), tuple(line.rstrip("\0").split("\0")))

    def _open_files(self, pid: int) -> list[Path]:
        try:
            return list((self._proc / str(pid) / "fd").iterdir())
        except OSError:
            return []

    def _locks(self) -> Iterator[tuple[str, str]]:
        """Process and file of each lock: `1: POSIX ADVISORY WRITE 812 00:05:345 0 EOF`."""
        try:
            lines = (self._proc / "locks").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            fields = line.replace("->", "").split()
            yield fields[4], fields[5]


def _identities(devices: Collection[Path]) -> set[str]:
    return {name for device in devices if (name := _identity(device)) is not None}


def _identity(path: Path) -> str | None:
    """A file as /proc/locks names it: its device's numbers in hexadecimal, and its inode."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
