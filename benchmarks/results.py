"""What was measured, as it is kept in a file of JSON. Each part may be missing."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from edge_daemon._lib.validation import problems
from edge_daemon.errors import SettingsError
from edge_daemon.monitoring.hardware import Hardware

ROOT: Final = Path(__file__).parents[1]


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stamp(Entry):
    """When and where something was measured."""

    time: AwareDatetime
    commit: str
    """Ends in `+` where files differed from it."""
    processor: str
    cores: int
    load: float
    """What else the machine did before: processes that could run, in the last minute's mean."""

    @classmethod
    def of_now(cls) -> Self:
        return cls(
            time=datetime.now(UTC).replace(microsecond=0),
            commit=_commit(),
            processor=Hardware().cpu(),
            cores=len(os.sched_getaffinity(0)),
            load=round(os.getloadavg()[0], 2),
        )


def _commit() -> str:
    words = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty=+"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or "unknown"


class Figures(Entry):
    """Medians over the rounds of one contestant."""

    fps: float
    cpu_ms: float
    """Milliseconds of processor time a frame."""
    faces: float
    """Faces a frame."""


class Comparison(Entry):
    """One line of the comparison: one clip, one choice of parts."""

    clip: str
    faces: int | None
    """Those composed into each frame; None for a clip as it is."""
    detector: str
    members: int
    threads: int
    pipeline: Figures
    """With default settings."""
    every_frame: Figures
    """The pipeline, if it looks for faces in every frame."""
    kernels: Figures
    fer: Figures | None
    over_kernels: float
    """Processor time a frame of the pipeline that looks for faces in every frame, in that of the
    kernels, which do so, too."""
    over_fer: float | None
    """The pipeline's frames a second, in those of fer."""


class Comparisons(Entry):
    stamp: Stamp
    rounds: int
    frames: int
    all_members: int
    lines: tuple[Comparison, ...]


class ModelFigures(Entry):
    """One network alone, one face after another."""

    name: str
    ms: float
    """Milliseconds of processor time a face."""
    over_fer: float | None
    """In those of fer's model."""


class Models(Entry):
    stamp: Stamp
    rounds: int
    models: tuple[ModelFigures, ...]


class FollowingPoint(Entry):
    """The pipeline with one setting of `detection.interval`."""

    every: int
    looks: float
    """The part of the frames in which faces were looked for."""
    cpu_ms: float
    """Milliseconds of processor time a frame until the crops are cut."""
    faces: int
    """In all frames together."""
    displacement: float
    """How far boxes are from where they are with 1: mean of the centres', in face sizes."""
    agreement: float
    """The part of the published emotions that are the same as with 1."""


class Following(Entry):
    """What it does to faces to be looked for in some frames only."""

    stamp: Stamp
    detector: str
    frames: int
    """Of all clips together."""
    points: tuple[FollowingPoint, ...]


class Linearity(Entry):
    """What a frame costs, against the number of faces in it."""

    stamp: Stamp
    rounds: int
    detector: str
    members: int
    cpu_ms: dict[int, float]
    """Milliseconds of processor time a frame, by faces a frame."""
    slope: float
    """Milliseconds a face."""
    intercept: float
    r_squared: float


class Minute(Entry):
    """One minute (or less, at the end) of a run."""

    frames: int
    rss_mb: float
    latency_ms: float
    """Median."""
    cpu_ms: float
    """A frame."""


class Steadiness(Entry):
    stamp: Stamp
    seconds: float
    """Of each of the parts below."""
    minutes: tuple[Minute, ...]
    rss_growth: float
    """From the second to the last."""
    latency_growth: float
    cpu_growth: float


class MembersPoint(Entry):
    """The first members of the ensemble."""

    members: int
    mmac: float
    ms: float
    """Milliseconds of processor time a face, one face at a time."""
    accuracy: float


class BudgetPoint(Entry):
    """What the daemon makes of a time budget."""

    budget_ms: float
    """A face."""
    members: float
    """Asked, on average."""
    ms: float
    """Milliseconds of processor time a face that it took."""
    accuracy: float


class Anytime(Entry):
    stamp: Stamp
    faces: int
    members: tuple[MembersPoint, ...]
    budgets: tuple[BudgetPoint, ...]


class Results(Entry):
    comparisons: Comparisons | None = None
    models: Models | None = None
    linearity: Linearity | None = None
    following: Following | None = None
    steadiness: Steadiness | None = None
    anytime: Anytime | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """What a file holds; nothing, if it is not there yet.

        Raises:
            SettingsError: it is not of the form of this version.
        """
        if not path.is_file():
            return cls()
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise SettingsError(
                f"{path}: {problems(error)}; remove it to repeat the measurement"
            ) from error

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
