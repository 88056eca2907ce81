"""The report of a measured run."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np

from edge_daemon.commands.bench.stopwatch import Stopwatch
from edge_daemon.errors import SettingsError


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
