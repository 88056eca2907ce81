"""The daemon as a monitored child process, restarted as by systemd."""

import contextlib
import resource
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faults.device import events_in
from running import RunningProgram

RESTART_PAUSE: Final = 2.0
"""Seconds, as RestartSec in the service's unit."""

FILES_LIMIT: Final = 1024
"""Open files without a fault."""

SAMPLING_INTERVAL: Final = 1.0


@dataclass(frozen=True)
class Sample:
    """The resources of one process."""

    life: int
    """Counts the processes from 1."""
    age: float
    """Seconds since its start."""
    rss_mb: float
    files: int
    threads: int


class Device:
    """The daemon over all its restarts.

    Args:
        state: below which its state folder is made.
        words: of its command line.
        inside: a command inside of which it runs.
    """

    def __init__(self, state: Path, *words: object, inside: Sequence[str] = ()) -> None:
        self.samples: list[Sample] = []
        self.own_ends: list[str] = []
        """How processes ended by themselves."""
        self.restarts = 0
        self.seconds_up = 0.0
        self._state = state
        self._words = words
        self._inside = inside
        self._runs: list[RunningProgram] = []
        self._lines_read: list[int] = []
        self._logged: dict[str, int] = {}
        self._reading = threading.Lock()
        self._began = 0.0
        self._expected = threading.Event()
        self._retired = threading.Event()
        self._start()
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    def kill(self) -> None:
        """Kill it, as the kernel does when memory is short."""
        self._expected.set()
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        self._life.process.send_signal(number)

    def limit_files(self, more: int | None) -> None:
        """Limit the open files to so many more than now; None: to the limit at the start."""
        pid = self._life.process.pid
        _, maximum = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        files = [int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir()]
        limit = FILES_LIMIT if more is None else max(files) + 1 + more
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(limit, maximum), maximum))

    def retire(self) -> None:
        """Stop it without a restart, as `systemctl stop` does."""
        self._retired.set()
        self._keeper.join()
        self._read_samples()
        code, seconds = self._life.end(signal.SIGTERM)
        if code != 0 or seconds > 10:
            self.own_ends.append(f"at SIGTERM with code {code} after {seconds:.1f} s")

    def abandon(self) -> None:
        """Kill the process if it still runs."""
        self._retired.set()
        self._keeper.join()
        if self._life.process.poll() is None:
            self._life.end(signal.SIGKILL)

    @property
    def logged(self) -> dict[str, int]:
        """Sequence numbers by event ID, of all logged events in order."""
        with self._reading:
            for number, life in enumerate(self._runs):
                lines = life.err[self._lines_read[number] :]
                self._lines_read[number] += len(lines)
                self._logged |= events_in(lines)
            return dict(self._logged)

    @property
    def lines(self) -> list[str]:
        """All its log lines, by process."""
        return [
            f"[{number}] {line}"
            for number, life in enumerate(self._runs, 1)
            for line in (*life.out, *life.err)
        ]

    def count_logged(self, words: str) -> int:
        """Number of lines of the current process with these words."""
        return sum(words in line for line in list(self._life.err))

    @property
    def _life(self) -> RunningProgram:
        return self._runs[-1]

    def _start(self) -> None:
        self._began = time.monotonic()
        self._lines_read.append(0)
        self._runs.append(RunningProgram(self._state, *self._words, inside=self._inside))
        self._expected.clear()

    def _keep(self) -> None:
        """Monitor the process: take samples, and restart it when it has ended."""
        while not self._retired.wait(SAMPLING_INTERVAL):
            self._read_samples()
            code = self._life.process.poll()
            if code is None:
                continue
            if not self._expected.is_set():
                self.own_ends.append(f"code {code}: {' / '.join(self._life.err[-3:])}")
            self.restarts += 1
            if not self._retired.wait(RESTART_PAUSE):
                self._start()

    def _read_samples(self) -> None:
        folder = Path("/proc", str(self._life.process.pid))
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):  # it has ended
            lines = (folder / "status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines)
            self.samples.append(
                Sample(
                    life=len(self._runs),
                    age=time.monotonic() - self._began,
                    rss_mb=int(status["VmRSS"].split()[0]) / 1024,
                    files=len(list((folder / "fd").iterdir())),
                    threads=int(status["Threads"]),
                )
            )
            self.seconds_up += SAMPLING_INTERVAL


@contextmanager
def kept_running(state: Path, *words: object, inside: Sequence[str] = ()) -> Iterator[Device]:
    device = Device(state, *words, inside=inside)
    try:
        yield device
    finally:
        device.abandon()
