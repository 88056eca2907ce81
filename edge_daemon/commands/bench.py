"""`edge-daemon bench`: speed of the pipeline on this machine, and cost of a frame."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass, replace
from itertools import compress
from operator import not_
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

import numpy as np

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon._lib.files import bundled_models
from edge_daemon.capture import CapturedFrame, Reader, Source, source_from_settings
from edge_daemon.capture.wrappers import Repeated
from edge_daemon.config.settings import MetricsSettings, PreviewSettings, Settings
from edge_daemon.detection import detector_from_settings
from edge_daemon.detection.base import Detector
from edge_daemon.errors import SettingsError
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.output.progress import frame_progress
from edge_daemon.pipeline import Pipeline, Sink, StageObserver
from edge_daemon.records import Detection, FrameResult, Image

CAPTURE: Final = "capture"
DETECTION: Final = "detection"
"""Names of stages."""

MAX_IDLE_LOAD: Final = 0.5
"""Processes per core before the run, from which on others disturb it."""


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
    """Members of the ensemble used for its faces."""


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
        self.detected: list[bool] = []
        """Whether the detector ran."""
        self.wall = wall
        self._processor = processor
        self._is_detected = False

    def note_detection(self) -> None:
        """Note that the detector runs, in the thread of its stage."""
        self._is_detected = True

    def record(self, stage: str, seconds: float) -> None:
        """Add a frame's duration in a stage."""
        self.seconds.setdefault(stage, []).append(seconds)
        if stage == DETECTION:
            self.detected.append(self._is_detected)
            self._is_detected = False

    def finish(self, result: FrameResult) -> None:
        """Add a frame that has passed all stages; not the blank one at the end."""
        if result.frame.is_blank:
            return
        members = max((face.members for face in result.faces), default=0)
        frame = result.frame
        self.frames.append(FrameSummary(frame.width, frame.height, len(result.faces), members))
        self.finished.append(Instant(self.wall(), self._processor()))


class TimedSource:
    """A source of files whose reads are measured."""

    is_live = False

    def __init__(self, source: Source, stopwatch: Stopwatch) -> None:
        self.name = source.name
        self.kind = source.kind
        self._source = source
        self._stopwatch = stopwatch

    def open(self) -> Reader:
        return _TimedReader(self._source.open(), self._stopwatch)


class _TimedReader:
    def __init__(self, reader: Reader, stopwatch: Stopwatch) -> None:
        self._reader = reader
        self._stopwatch = stopwatch

    def read(self) -> CapturedFrame | None:
        began = self._stopwatch.wall()
        captured = self._reader.read()
        self._stopwatch.record(CAPTURE, self._stopwatch.wall() - began)
        return captured

    def close(self) -> None:
        self._reader.close()


class ObservedDetector:
    """A detector that calls `observe` each time it runs."""

    def __init__(self, detector: Detector, observe: Callable[[], None]) -> None:
        self.name = detector.name
        self.framing = detector.framing
        self.start_score = detector.start_score
        self._detector = detector
        self._observe = observe

    def detect(self, bgr: Image) -> list[Detection]:
        self._observe()
        return self._detector.detect(bgr)


@dataclass(frozen=True)
class Machine:
    """Where the measurement ran. What is not known is None."""

    model: str
    """Name of the board, or of the CPU."""
    cores: int
    """Cores that this process may use."""
    memory_mb: int | None
    load: float
    """Mean number of running processes in the minute before."""
    temperature_c: tuple[float | None, float | None] = (None, None)
    """Before and after the run."""
    throttled: tuple[str, ...] | None = None
    """Throttling at the end of the run."""

    @classmethod
    def read(cls, hardware: Hardware) -> Self:
        """This machine, before a run."""
        memory = hardware.total_memory()
        return cls(
            model=hardware.board() or hardware.cpu(),
            cores=len(os.sched_getaffinity(0)),
            memory_mb=None if memory is None else round(memory / 1e6),
            load=round(os.getloadavg()[0], 1),
            temperature_c=(hardware.cpu_temperature(), None),
        )

    def after(self, hardware: Hardware) -> Self:
        """The same machine, after the run."""
        temperature_c = self.temperature_c[0], hardware.cpu_temperature()
        return replace(self, temperature_c=temperature_c, throttled=hardware.throttled())

    def lines(self) -> Iterator[str]:
        parts = [self.model, f"{self.cores} cores"]
        if self.memory_mb is not None:
            parts.append(f"{self.memory_mb / 1000:.1f} GB of memory")
        before, after = self.temperature_c
        if before is not None and after is not None:
            parts.append(f"{before:.0f} to {after:.0f} °C")
        if self.throttled is not None:
            parts.append(", ".join(self.throttled).replace("_", " ") or "not throttled")
        yield "machine: " + ", ".join(parts)
        if self.load > MAX_IDLE_LOAD * self.cores:
            yield f"  other programs use the CPU (load {self.load:.1f}), which slows this run"


@dataclass(frozen=True)
class BenchSettings:
    """The settings that decide the speed."""

    detector: str
    detection_interval: int
    """Maximum frames from one detection to the next."""
    detection_max_side: int
    """Longer side of the image for detection, in pixels; larger frames are scaled down."""
    models: tuple[str, ...]
    """Model file of each member, in the order in which they are used."""
    threads: int

    @classmethod
    def of(cls, settings: Settings, detector: Detector) -> Self:
        """The settings of a run.

        Raises:
            BundleError: the models cannot be read.
        """
        bundle = read_bundle(settings.inference.bundle or bundled_models())
        return cls(
            detector=detector.name,
            detection_interval=settings.detection.interval,
            detection_max_side=settings.detection.max_side,
            models=tuple(
                f"{member.file} (mirrored)" if member.mirrored else member.file
                for member in bundle.members
            ),
            threads=settings.inference.threads,
        )

    def lines(self) -> Iterator[str]:
        yield f"detector: {self.detector}, longer side at most {self.detection_max_side} px"
        yield f"members: {', '.join(self.models)}; threads: {self.threads}"


@dataclass(frozen=True)
class DetectionReport:
    """How often the detector ran; medians of the stage with and without it."""

    share: float
    """Of the frames, 0 to 1."""
    with_ms: float | None
    without_ms: float | None

    @classmethod
    def of(cls, seconds: Sequence[float], detected: Sequence[bool]) -> Self:
        return cls(
            share=round(sum(detected) / len(detected), 3),
            with_ms=_median_ms(list(compress(seconds, detected))),
            without_ms=_median_ms(list(compress(seconds, map(not_, detected)))),
        )

    def lines(self, interval: int) -> Iterator[str]:
        """Why p50 and p95 of the stage differ."""
        yield (
            f"detection ran in {100 * self.share:.0f} % of the frames "
            f"(detection.interval = {interval})"
        )
        if self.with_ms is None or self.without_ms is None:
            return
        medians = f"median {self.with_ms:.2f} ms with it, {self.without_ms:.2f} ms without"
        yield f"  {medians}: {self._percentiles()}"

    def _percentiles(self) -> str:
        """Which frames the percentiles are, if those with a detection are the slowest."""
        if self.share < 0.05:
            return "p50 and p95 are frames without it"
        if self.share < 0.45:
            return "p50 is a frame without it, p95 one with it"
        if self.share < 0.55:
            return "p50 is between them, p95 is a frame with it"
        return "p50 and p95 are frames with it"


def _median_ms(seconds: list[float]) -> float | None:
    return round(1000 * float(np.median(seconds)), 3) if seconds else None


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
    machine: Machine
    settings: BenchSettings
    members: int
    """Maximum number of members used."""
    frames: int
    fps: float
    """Frames per second, with all stages in parallel."""
    cpu_ms: float
    """Milliseconds of processor time per frame, of all threads."""
    faces: float
    """Mean number of faces per frame."""
    stages: dict[str, StageReport]
    detection: DetectionReport

    @classmethod
    def of(
        cls,
        stopwatch: Stopwatch,
        warmup: int,
        *,
        source: str,
        machine: Machine,
        settings: BenchSettings,
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
        frames = slice(warmup, warmup + len(seen))
        began, ended = stopwatch.finished[warmup], stopwatch.finished[-1]
        return cls(
            source=source,
            width=seen[0].width,
            height=seen[0].height,
            machine=machine,
            settings=settings,
            members=max(it.members for it in seen),
            frames=len(seen),
            fps=round(len(seen) / (ended.wall - began.wall), 2),
            cpu_ms=round(1000 * (ended.processor - began.processor) / len(seen), 3),
            faces=round(sum(it.faces for it in seen) / len(seen), 3),
            stages={name: _stage(seconds[frames]) for name, seconds in stopwatch.seconds.items()},
            detection=DetectionReport.of(
                stopwatch.seconds[DETECTION][frames], stopwatch.detected[frames]
            ),
        )

    def as_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def as_text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.source}: {self.frames} frames of {self.width}x{self.height}"
        yield from self.machine.lines()
        yield from self.settings.lines()
        yield ""
        yield f"{'stage':<12} {'p50 ms':>8} {'p95 ms':>8}"
        for name, stage in self.stages.items():
            yield f"{name:<12} {stage.p50_ms:>8.2f} {stage.p95_ms:>8.2f}"
        yield ""
        yield (
            f"{self.fps:.1f} frames a second, {self.cpu_ms:.2f} ms of processor time a frame, "
            f"{self.faces:.2f} faces a frame, at most {self.members} members"
        )
        yield "stages work at the same time, so the slowest one limits the frames a second"
        yield from self.detection.lines(self.settings.detection_interval)


def _stage(seconds: list[float]) -> StageReport:
    p50, p95 = 1000 * np.percentile(seconds, (50, 95))
    return StageReport(round(float(p50), 3), round(float(p95), 3))


class Build(Protocol):
    """Builds the daemon's pipeline: `edge_daemon.daemon.build_pipeline`.

    It is passed in, since commands may not import the composition root.
    """

    def __call__(
        self,
        settings: Settings,
        clock: Clock,
        resources: ExitStack,
        *,
        source: Source,
        detector: Detector,
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
    stopwatch, clock = Stopwatch(), SystemClock()
    original = source = source_from_settings(settings)
    if source.is_live:
        raise SettingsError(f"source: is live (got {source.name}); name a video, image or folder")
    hardware = Hardware()
    detector, machine = detector_from_settings(settings), Machine.read(hardware)
    bench_settings = BenchSettings.of(settings, detector)
    total = None if frames is None else frames + warmup
    if total is not None:
        source = Repeated(source, total)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        ExitStack() as resources,
    ):
        progress = frame_progress(original, resources, clock, prints_results=False, frames=total)
        build(
            _measured_settings(settings),
            clock,
            resources,
            source=TimedSource(source, stopwatch),
            detector=ObservedDetector(detector, stopwatch.note_detection),
            sinks=[stopwatch.finish, *progress],
            observers=[stopwatch.record],
        ).run()
    return Report.of(
        stopwatch,
        warmup,
        source=settings.source,
        machine=machine.after(hardware),
        settings=bench_settings,
    )


def _measured_settings(settings: Settings) -> Settings:
    """The settings of a run without what a measurement leaves out."""
    overrides = {
        "sink": "jsonl",  # to the null device, so that encoding the messages is measured, too
        "capture": settings.capture.model_copy(update={"loop": False}),
        "metrics": MetricsSettings(),
        "preview": PreviewSettings(),
    }
    return settings.model_copy(update=overrides)
