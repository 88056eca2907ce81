"""Messages to the page. They are versioned with the page, so this schema is not public."""

from typing import Literal

from pydantic import BaseModel, Field

from edge_daemon.config.settings import Polygon
from edge_daemon.records import FrameResult, SourceState
from edge_daemon.schema import (
    FaceEvent,
    FaceMessage,
    FacesMessage,
    HealthMessage,
    LatencyMessage,
    Timestamp,
    faces_message,
    rounded,
)


class PreviewFace(FaceMessage):
    """A face as it is published, with the probabilities of this frame alone."""

    raw: dict[str, float] | None = Field(description="Probabilities before smoothing.")


class PreviewFrame(FacesMessage):
    """A frame's result."""

    faces: tuple[PreviewFace, ...]


class Totals(BaseModel, frozen=True):
    """Totals since the daemon's start."""

    visits: int = Field(description="Faces that appeared.")
    face_seconds: dict[str, float] = Field(description="Time of all faces by emotion.")


class Condition(BaseModel, frozen=True):
    """The daemon's figures."""

    health: HealthMessage
    stages: dict[str, LatencyMessage] = Field(description="Time per frame by stage.")
    broker: Literal["connected", "disconnected", "none"]
    totals: Totals


class FrameHeader(BaseModel, frozen=True):
    """What the page shows at one moment; the frame's JPEG follows it."""

    state: SourceState
    paused: bool
    viewers: int = Field(description="Open pages.")
    condition: Condition
    events: int = Field(description="Events since the start; more of them can be fetched.")
    frame: PreviewFrame | None = Field(description="null without a picture.")
    crops: dict[int, str] = Field(
        description="By track, the models' input: 48x48 grey pixels in row order, as base64."
    )


class Session(BaseModel, frozen=True):
    """What the page needs once, when it connects."""

    device: str
    version: str
    source: str
    camera: bool = Field(description="Whether the source is a camera, not a file.")
    emotions: tuple[str, ...]
    zones: tuple[Polygon, ...] = Field(description="Regions in which faces are ignored.")
    token: str = Field(description="Form token for requests that change something.")


class LastMinute(BaseModel, frozen=True):
    """Results of the last minute, to save as a file."""

    time: Timestamp
    device: str
    condition: Condition
    frames: tuple[PreviewFrame, ...]


class Events(BaseModel, frozen=True):
    """The newest events, oldest first."""

    events: tuple[FaceEvent, ...]


class PhotoResult(BaseModel, frozen=True):
    """The models' output for a photo."""

    frame: PreviewFrame
    crops: dict[int, str]


def preview_frame(result: FrameResult, latency_ms: float) -> PreviewFrame:
    """A result as the page shows it."""
    message = faces_message(result, latency_ms)
    faces = tuple(
        PreviewFace(**dict(face), raw=None if emotion.raw is None else rounded(emotion.raw))
        for face, emotion in zip(message.faces, result.faces, strict=True)
    )
    return PreviewFrame(**dict(message) | {"faces": faces})
