"""`edge-daemon bench`: speed of the pipeline on this machine, and cost of a frame."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

import numpy as np

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.capture import Picture, Reader, Source, source_of
from edge_daemon.capture.wrappers import Repeated
from edge_daemon.config.settings import MetricsSettings, PreviewSettings, Settings
from edge_daemon.detection import detector_of
from edge_daemon.errors import SettingsError
from edge_daemon.output.progress import frame_progress
from edge_daemon.pipeline import Pipeline, Sink, StageObserver
from edge_daemon.records import FrameResult

CAPTURE: Final = "capture"


class Instant(NamedTuple):
    """Seconds on two clocks."""

    wall: float
    processor: float
    """Of all threads of this process together."""


class FrameSummary(NamedTuple):
    """What a frame contains."""

    width: int
    height: int
    faces: int
    members: int
    """Models used for its faces."""


class Stopwatch:
    """Collects measurements; one thread writes each list, which has an entry for each frame.

    Args:
        wall: the wall clock, in seconds.
        processor: the processor time, in seconds.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self.seconds: dict[str, list[float]] = {CAPTURE: []}
        """Durations in each stage."""
        self.frames: list[FrameSummary] = []
        self.finished = [Instant(wall(), processor())]
        """The start, then the end of each frame's last stage."""
        self.wall = wall
        self._processor = processor

    def record(self, stage: str, seconds: float) -> None:
        """Add a frame's duration in a stage."""
        self.seconds.setdefault(stage, []).append(seconds)

    def finish(self, result: FrameResult) -> None:
        """Add a frame that has passed all stages; not the blank one at the end."""
        if result.frame.blank:
            return
        members = max((face.members for face in result.faces), default=0)
        frame = result.frame
        self.frames.append(FrameSummary(frame.width, frame.height, len(result.faces), members))
        self.finished.append(Instant(self.wall(), self._processor()))


class TimedSource:
    """A source of files whose reads are measured."""

    live = False

    def __init__(self, source: Source, stopwatch: Stopwatch) -> None:
        self.name = source.name
        self._source = source
        self._stopwatch = stopwatch

    def open(self) -> Reader:
        return _TimedReader(self._source.open(), self._stopwatch)


class _TimedReader:
    def __init__(self, reader: Reader, stopwatch: Stopwatch) -> None:
        self._reader = reader
        self._stopwatch = stopwatch

    def read(self) -> Picture | None:
        began = self._stopwatch.wall()
        picture = self._reader.read()
        self._stopwatch.record(CAPTURE, self._stopwatch.wall() - began)
        return picture

    def close(self) -> None:
        self._reader.close()


@dataclass(frozen=True)
class StageReport:
    """Milliseconds of wall-clock time per frame in one stage."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Report:
    """Results of one run, without the warm-up frames."""

    source: str
    width: int
    height: int
    detector: str
    members: int
    """Maximum number of models used."""
    threads: int
    frames: int
    fps: float
    """Frames per second, with all stages in parallel."""
    cpu_ms: float
    """Milliseconds of processor time per frame, of all threads."""
    faces: float
    """Mean number of faces per frame."""
    stages: dict[str, StageReport]

    @classmethod
    def of(
        cls, stopwatch: Stopwatch, warmup: int, *, source: str, detector: str, threads: int
    ) -> Self:
        """The report of a run.

        Raises:
            SettingsError: all frames are warm-up frames.
        """
        seen = stopwatch.frames[warmup:]
        if not seen:
            count = len(stopwatch.frames)
            raise SettingsError(
                f"--warmup: takes all {count} frames of {source}; use a smaller number"
            )
        began, ended = stopwatch.finished[warmup], stopwatch.finished[-1]
        return cls(
            source=source,
            width=seen[0].width,
            height=seen[0].height,
            detector=detector,
            members=max(it.members for it in seen),
            threads=threads,
            frames=len(seen),
            fps=round(len(seen) / (ended.wall - began.wall), 2),
            cpu_ms=round(1000 * (ended.processor - began.processor) / len(seen), 3),
            faces=round(sum(it.faces for it in seen) / len(seen), 3),
            stages={
                name: _stage(seconds[warmup : warmup + len(seen)])
                for name, seconds in stopwatch.seconds.items()
            },
        )

    def as_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def as_text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.source}: {self.frames} frames of {self.width}x{self.height}"
        yield f"{self.detector}, members {self.members}, threads {self.threads}"
        yield ""
        yield f"{'stage':<12} {'p50 ms':>8} {'p95 ms':>8}"
        for name, stage in self.stages.items():
            yield f"{name:<12} {stage.p50_ms:>8.2f} {stage.p95_ms:>8.2f}"
        yield ""
        yield (
            f"{self.fps:.1f} frames a second, {self.cpu_ms:.2f} ms of processor time a frame, "
            f"{self.faces:.2f} faces a frame"
        )


def _stage(seconds: list[float]) -> StageReport:
    p50, p95 = 1000 * np.percentile(seconds, (50, 95))
    return StageReport(round(float(p50), 3), round(float(p95), 3))


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
