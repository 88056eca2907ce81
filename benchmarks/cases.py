"""The task of a contestant and its answer. Importable in other environments."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class Case:
    """One contestant's work in one round."""

    clip: str
    """A video file, played again from its start where it is too short."""
    detector: str
    """Of the daemon's; fer has its own."""
    bundle: str
    """The folder of the members that run."""
    threads: int
    frames: int
    """To be measured …"""
    warmup: int
    """… after so many more."""
    yunet: str | None = None
    """The file of that detector."""
    every: int | None = None
    """Frames from one detection to the next at most; None: as many as the daemon's default."""

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Round:
    """What one contestant took in one round."""

    frames: int
    faces: int
    """In all frames together."""
    seconds: float
    """By the wall clock."""
    cpu_seconds: float
    """Of all threads of the process."""

    @property
    def fps(self) -> float:
        return self.frames / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of processor time a frame."""
        return 1000 * self.cpu_seconds / self.frames

    @property
    def faces_a_frame(self) -> float:
        return self.faces / self.frames

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))
