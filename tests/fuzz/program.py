"""Run the whole program quickly: each run is a fork of a process that has loaded the program.

Starting Python and loading OpenCV and LiteRT takes most of a short run's time. A fork server does
that once. Each run is a separate process, so that a crash or hang does not affect the tests.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest.mock import patch

from conftest import clean_environment

from edge_daemon import cli

LIMIT = 60.0
"""Timeout of a run in seconds; a run takes a fraction of a second."""

LOADED = ["edge_daemon.daemon", "edge_daemon.commands.check", "ai_edge_litert.interpreter"]


@dataclass(frozen=True)
class Done:
    """The result of a run."""

    code: int
    """The exit code; negative: the signal that killed it."""
    out: str
    err: str

    @property
    def refusals(self) -> list[str]:
        """The error lines of the program."""
        return [line for line in self.err.splitlines() if line.startswith("edge-daemon: ")]

    def assert_orderly(self) -> None:
        """Assert that it exits by itself, and reports an error if and only if it fails."""
        assert self.code in {0, 1, 2}, self.err
        assert "Traceback" not in self.err
        assert "--debug shows where" not in self.err, self.err
        assert (self.code == 0) == (not self.refusals), self.err


def run(*words: object, state: Path, **environment: str) -> Done:
    """Run `edge-daemon` with these arguments; fail if it exceeds `LIMIT`."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        variables = clean_environment(state) | environment
        process = forks().Process(target=_main, args=(list(map(str, words)), out, err, variables))
        process.start()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"{words}: hangs: {err.read_text()}")
        assert process.exitcode is not None
        return Done(process.exitcode, _read(out), _read(err))


def forks() -> ForkServerContext:
    """A context whose processes have loaded the program."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with patch.dict(os.environ):
        cli._configure_libraries()  # OpenCV reads its log levels when it loads
        multiprocessing.forkserver.ensure_running()
    return context


def _main(words: list[str], out: Path, err: Path, environment: Mapping[str, str]) -> None:
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = words
    cli.entry_point()


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
