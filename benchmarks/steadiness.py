"""Whether the daemon stays as it is: memory, latency and cost over minutes of a looped clip."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Final, cast

from benchmarks.arithmetic import growth
from benchmarks.progress import report
from benchmarks.results import Minute, Stamp, Steadiness
from benchmarks.workers import QUIET, ROOT
from edge_daemon.errors import PipelineError

MINUTE: Final = 60.0
MIN_PARTS: Final = 4
"""Of a run that is shorter than as many minutes."""


def measure(clip: Path, minutes: float) -> Steadiness:
    """Run the program itself on a clip, at the clip's own speed, repeatedly.

    Raises:
        PipelineError: it ended before its time.
    """
    stamp = Stamp.of_now()
    seconds = min(MINUTE, minutes * MINUTE / MIN_PARTS)
    parts = round(minutes * MINUTE / seconds)
    with tempfile.TemporaryDirectory() as state, _running(clip, Path(state)) as process:
        lines = _lines(process)
        next(lines)  # it is ready
        measured = []
        for number in range(parts):
            report(f"steadiness: part {number + 1} of {parts}, of {seconds:.0f} s")
            measured.append(_part(process.pid, lines, seconds))
    second, last = measured[1], measured[-1]
    return Steadiness(
        stamp=stamp,
        seconds=seconds,
        minutes=tuple(measured),
        rss_growth=round(growth(second.rss_mb, last.rss_mb), 4),
        latency_growth=round(growth(second.latency_ms, last.latency_ms), 4),
        cpu_growth=round(growth(second.cpu_ms, last.cpu_ms), 4),
    )


@contextmanager
def _running(clip: Path, state: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603  # the interpreter that runs this
        [
            *(sys.executable, "-m", "edge_daemon", "run", "--source", str(clip.resolve())),
            *("--sink", "jsonl", "--set", "capture.loop=true", "--log-level", "error"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=os.environ | QUIET | {"XDG_STATE_HOME": str(state), "EDGE_DAEMON_CONFIG": os.devnull},
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    yield from cast("IO[str]", process.stdout)
    raise PipelineError(f"the daemon ended with exit code {process.wait()} while it was measured")


def _part(pid: int, lines: Iterator[str], seconds: float) -> Minute:
    """Figures from the lines of a period, and from the process at the same time."""
    latencies, sizes = [], []
    began, cpu = time.monotonic(), _cpu_seconds(pid)
    for line in lines:
        latencies.append(json.loads(line)["latency_ms"])
        sizes.append(_rss_mb(pid))
        if time.monotonic() - began >= seconds:
            break
    return Minute(
        frames=len(latencies),
        rss_mb=round(median(sizes), 2),
        latency_ms=round(median(latencies), 2),
        cpu_ms=round(1000 * (_cpu_seconds(pid) - cpu) / len(latencies), 3),
    )


def _rss_mb(pid: int) -> float:
    """Memory of a process that is in use, in MB."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process so far (proc(5): fields 14 and 15, behind a name in brackets)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
