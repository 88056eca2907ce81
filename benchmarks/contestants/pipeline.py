"""The daemon's own pipeline, all of it, as `edge-daemon bench` runs it."""

import contextlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.cases import Case, Round
from benchmarks.settings import settings_of
from edge_daemon._lib.clock import SystemClock
from edge_daemon.capture import source_from_settings
from edge_daemon.capture.wrappers import Repeated
from edge_daemon.commands.bench import Stopwatch
from edge_daemon.daemon import build_pipeline

FOLLOWING: Final = 8
"""Frames behind those that are measured. Stages work at the same time, so at either end of the
measurement the same share of later frames' work must be done already."""


def measure(case: Case) -> Round:
    settings = settings_of(case)
    stopwatch = Stopwatch()
    source = Repeated(source_from_settings(settings), case.warmup + case.frames + FOLLOWING)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        ExitStack() as resources,
    ):
        build_pipeline(
            settings,
            SystemClock(),
            resources,
            source=source,
            sinks=[stopwatch.finish],
        ).run()
    first, last = case.warmup, case.warmup + case.frames
    began, ended = stopwatch.finished[first], stopwatch.finished[last]
    return Round(
        frames=case.frames,
        faces=sum(frame.faces for frame in stopwatch.frames[first:last]),
        seconds=ended.wall - began.wall,
        cpu_seconds=ended.processor - began.processor,
    )
