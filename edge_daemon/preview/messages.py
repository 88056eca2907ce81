"""What the page is told. It comes along with the page, so this schema is no public one."""

from typing import Literal

from pydantic import BaseModel, Field

from edge_daemon.records import FrameResult, SourceState
from edge_daemon.schema import (
    FaceMessage,
    FacesMessage,
    HealthMessage,
    LatencyMessage,
    Timestamp,
    faces_message,
    rounded,
)


class SeenFace(FaceMessage):
    """A face as it is published, and what this frame alone says of it."""

    raw: dict[str, float] | None = Field(description="Probabilities before they are smoothed.")


class SeenFrame(FacesMessage):
    """A frame's result."""

    faces: tuple[SeenFace, ...]


class Condition(BaseModel, frozen=True):
    """How the daemon is."""

    health: HealthMessage
    stages: dict[str, LatencyMessage] = Field(description="Milliseconds of work for one frame.")
    broker: Literal["connected", "away", "none"]


class Glance(BaseModel, frozen=True):
    """What is so at this moment; the frame's picture follows it."""

    state: SourceState
    paused: bool
    watchers: int = Field(description="How many pages are open.")
    condition: Condition
    frame: SeenFrame | None = Field(description="null where there is no picture.")
    crops: dict[int, str] = Field(
        description="By track, what the models saw: 48x48 grey pixels, row by row, as base64."
    )


class Session(BaseModel, frozen=True):
    """What stays so while the daemon runs."""

    device: str
    version: str
    source: str
    camera: bool = Field(description="Whether the source is one, and no file.")
    emotions: tuple[str, ...]
    token: str = Field(description="What a request that changes something must carry.")


class LastMinute(BaseModel, frozen=True):
    """The results of the last minute, for a file."""

    time: Timestamp
    device: str
    condition: Condition
    frames: tuple[SeenFrame, ...]


def seen_frame(result: FrameResult, latency_ms: float) -> SeenFrame:
    told = faces_message(result, latency_ms)
    faces = tuple(
        SeenFace(**dict(face), raw=None if seen.raw is None else rounded(seen.raw))
        for face, seen in zip(told.faces, result.faces, strict=True)
    )
    return SeenFrame(**dict(told) | {"faces": faces})
