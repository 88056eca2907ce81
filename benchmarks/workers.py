"""The contestants' processes, as the comparison sees them."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from benchmarks.cases import Case, Round
from edge_daemon.errors import PipelineError

ROOT: Final = Path(__file__).parents[1]

QUIET: Final = {"OPENCV_FFMPEG_LOGLEVEL": "-8", "TF_CPP_MIN_LOG_LEVEL": "2"}

Contestant = Callable[[Case], Round]
"""Runs a round on request."""


@contextmanager
def contestant(name: str, python: str) -> Iterator[Contestant]:
    """A contestant in a process of its own, which waits between two rounds.

    Args:
        name: a module in `benchmarks.contestants`.
        python: the interpreter of an environment with what it needs.

    Raises:
        PipelineError: in a round, if the process fails.
    """
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603  # the user's own interpreter
            [python, "-m", "benchmarks.contestants", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=os.environ | QUIET,
        ) as process,
        cast("IO[str]", process.stdin) as cases,
    ):
        answers = cast("IO[str]", process.stdout)

        def measure(case: Case) -> Round:
            print(case.as_json(), file=cases, flush=True)
            answer = answers.readline()
            if not answer:
                errors.seek(0)
                raise PipelineError(f"benchmark of {name} failed: {_last_line(errors.read())}")
            return Round.from_json(answer)

        yield measure


def _last_line(text: str) -> str:
    return (text.strip() or "no output").splitlines()[-1]
