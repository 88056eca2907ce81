"""Runs the daemon's own pipeline on a source of files, and measures it."""

import contextlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.capture import Source, source_of
from edge_daemon.capture.playback import Repeated
from edge_daemon.commands.bench.report import Report
from edge_daemon.commands.bench.stopwatch import Stopwatch, TimedSource
from edge_daemon.config.settings import MetricsSettings, PreviewSettings, Settings
from edge_daemon.detection import detector_of
from edge_daemon.errors import SettingsError
from edge_daemon.output.progress import frame_progress
from edge_daemon.pipeline import Pipeline, Sink, StageObserver
from edge_daemon.records import FrameResult


class Build(Protocol):
    """Builds the daemon's pipeline (see `edge_daemon.daemon.build_pipeline`)."""

    def __call__(
        self,
        settings: Settings,
        clock: Clock,
        resources: ExitStack,
        *,
        source: Source,
        sinks: Sequence[Sink[FrameResult]],
        observers: Sequence[StageObserver],
    ) -> Pipeline: ...


def measure(settings: Settings, build: Build, frames: int | None, warmup: int) -> Report:
    """Run the pipeline at full speed, and discard its results.

    Args:
        settings: the settings of a run; results are discarded.
        build: builds the pipeline.
        frames: frames to measure, repeating the source; None: the source once.
        warmup: frames before the measurement, which allocate memory.

    Raises:
        SettingsError: the source is live, or too short.
        EdgeDaemonError: a part cannot be built, or the pipeline failed.
    """
    overrides = {
        "sink": "jsonl",
        "capture": settings.capture.model_copy(update={"loop": False}),
        "metrics": MetricsSettings(),
        "preview": PreviewSettings(),
    }
    stopwatch, clock = Stopwatch(), SystemClock()
    original = source = source_of(settings)
    if source.live:
        raise SettingsError(f"source: is live (got {source.name}); use a video, image or folder")
    total = None if frames is None else frames + warmup
    if total is not None:
        source = Repeated(source, total)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        ExitStack() as resources,
    ):
        progress = frame_progress(original, resources, clock, prints_results=False, frames=total)
        build(
            settings.model_copy(update=overrides),
            clock,
            resources,
            source=TimedSource(source, stopwatch),
            sinks=[stopwatch.finish, *progress],
            observers=[stopwatch.record],
        ).run()
    return Report.of(
        stopwatch,
        warmup,
        source=settings.source,
        detector=detector_of(settings).name,
        threads=settings.inference.threads,
    )
