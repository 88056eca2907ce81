"""Runs the daemon's own pipeline on a source of files, and tells what it took."""

import contextlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.commands.bench.report import Report
from edge_daemon.commands.bench.stopwatch import Stopwatch
from edge_daemon.config.settings import MetricsSettings, PreviewSettings, Settings
from edge_daemon.detection import detector_of
from edge_daemon.pipeline import Pipeline

Build = Callable[[Settings, Clock, ExitStack, Stopwatch], Pipeline]
"""Makes a pipeline with a stopwatch at its source and its stages."""


def measure(settings: Settings, build: Build, frames: int | None, warmup: int) -> Report:
    """Run the pipeline as fast as it goes; its results go nowhere.

    Args:
        settings: as of a run; where they would have results sent does not matter.
        build: makes the pipeline.
        frames: how many to measure, the source being repeated as needed; None for one round of it.
        warmup: how many to let pass before, in which memory is prepared.

    Raises:
        SettingsError: the source is live, or too short.
        EdgeDaemonError: a part cannot be built, or the pipeline failed.
    """
    unserved = {"metrics": MetricsSettings(), "preview": PreviewSettings()}
    quiet = settings.model_copy(update={"sink": "jsonl", **unserved})
    stopwatch = Stopwatch(None if frames is None else frames + warmup)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        ExitStack() as resources,
    ):
        build(quiet, SystemClock(), resources, stopwatch).run()
    return Report.of(
        stopwatch,
        warmup,
        source=settings.source,
        detector=detector_of(settings).name,
        threads=settings.inference.threads,
    )
