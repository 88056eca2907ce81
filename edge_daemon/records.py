"""The records that travel down the pipeline. All are frozen: a stage adds by making a new one.

Frame -> FoundFaces -> TrackedFaces -> FrameResult
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

EMOTIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""In FER2013's order, which is the column order of every model."""

CROP_SIDE: Final = 48
"""Side of the crop that the models read, in pixels."""

Image = NDArray[np.uint8]
"""BGR uint8 [H, W, 3], or grey uint8 [H, W]; each place says which."""

Landmarks = NDArray[np.float32]
"""float32 [5, 2], x and y of: right eye, left eye, nose, right and left mouth corner.

Right and left are the person's own, so the right eye stands left in the picture.
"""

Probabilities = NDArray[np.float32]
"""float32 [7] in the order of EMOTIONS; sums to 1."""


class Box(NamedTuple):
    """A bounding box in frame pixels; it may reach beyond the frame's edges."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


class SourceState(StrEnum):
    """Whether frames come."""

    STARTING = "starting"
    RUNNING = "running"
    LOST = "lost"
    PAUSED = "paused"


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture from a source."""

    index: int
    """Counts the source's frames from 0; dropped ones leave gaps."""
    scene: int
    """Frames of one scene follow each other in time; a new scene starts afresh."""
    bgr: Image
    """BGR uint8 [H, W, 3]."""
    captured_at: datetime
    """UTC; in a video file, at the video's pace from its first frame."""
    captured_monotonic: float
    """The same instant on the monotonic clock, in seconds: latency is measured from here."""
    stream_time: float
    """Seconds on the source's own time line, which a file keeps however fast it is read."""
    reduced: Image | None = None
    """The same picture, made smaller by the camera itself, where it does that: BGR uint8."""
    blank: bool = False
    """Black, because no picture comes: whoever was in sight has left it."""
    position_s: float | None = None
    """Seconds from the start of the video that is read, also while it repeats; None otherwise."""
    file: str | None = None
    """Name of the image file, without its folder; None for videos and cameras."""

    @property
    def width(self) -> int:
        return int(self.bgr.shape[1])

    @property
    def height(self) -> int:
        return int(self.bgr.shape[0])


@dataclass(frozen=True, eq=False)
class Detection:
    """What a detector says of one face, in the pixels of the picture that it was given."""

    box: Box
    score: float
    """The detector's own confidence, 0 to 1."""
    landmarks: Landmarks | None = None

    def enlarged(self, scale: float) -> "Detection":
        """The same face in a picture `scale` times as large."""
        if scale == 1:
            return self
        return Detection(
            Box(*(scale * value for value in self.box)),
            self.score,
            None if self.landmarks is None else self.landmarks * np.float32(scale),
        )

    def moved(self, x: float, y: float) -> "Detection":
        """The same, moved by so many pixels."""
        box = self.box._replace(x=self.box.x + x, y=self.box.y + y)
        landmarks = (
            None if self.landmarks is None else self.landmarks + np.array((x, y), np.float32)
        )
        return Detection(box, self.score, landmarks)


class Unscored(StrEnum):
    """Why a face is published as seen, but without an emotion."""

    TOO_SMALL = "too_small"
    TOO_BLURRED = "too_blurred"
    PROFILE = "profile"


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one frame."""

    detection: Detection
    crop: Image
    """Grey uint8 [48, 48], framed as the models were trained."""
    unscored: Unscored | None


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """A frame and the faces in it."""

    frame: Frame
    faces: tuple[Face, ...]


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face and whose it is: the same number for the same visit."""

    track_id: int
    face: Face


@dataclass(frozen=True, eq=False)
class TrackedFaces:
    """A frame, the faces in it by track, and the tracks that may still come back."""

    frame: Frame
    faces: tuple[TrackedFace, ...]
    remembered: frozenset[int]
    """All live tracks, also those missing for a moment; what others left can be forgotten."""


@dataclass(frozen=True, eq=False)
class FaceEmotion:
    """A tracked face and what the ensemble reads in it; nothing where the face is not scored."""

    track_id: int
    face: Face
    raw: Probabilities | None
    """From this frame alone."""
    probabilities: Probabilities | None
    """Smoothed over time."""
    uncertain: bool
    """Whether the confidence is below the configured limit."""
    members: int
    """How many of the ensemble's models were asked."""

    @property
    def emotion(self) -> str | None:
        return None if self.probabilities is None else EMOTIONS[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float | None:
        return None if self.probabilities is None else float(self.probabilities.max())


class EventKind(StrEnum):
    """What can happen to a face."""

    APPEARED = "appeared"
    EMOTION_CHANGED = "emotion_changed"
    LEFT = "left"


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happened to one face."""

    event_id: UUID
    kind: EventKind
    track_id: int
    at: datetime
    """UTC; of a face that left, when it was last seen."""
    emotion: str | None
    """The emotion from now on; of a face that left, its last."""
    previous: str | None
    """The emotion before a change."""
    duration: float
    """Seconds from the start of the visit until `at`."""
    probabilities: Probabilities | None
    """Mean of the smoothed probabilities over the visit; None if it was never scored."""
    position_s: float | None = None
    """Position in the video at `at`; None without one."""
    file: str | None = None
    """Name of the image file; None without one."""

    @property
    def started(self) -> datetime:
        """When the visit began, UTC."""
        return self.at - timedelta(seconds=self.duration)


@dataclass(frozen=True, eq=False)
class FrameResult:
    """All that is known of a frame: what the sinks publish."""

    frame: Frame
    faces: tuple[FaceEmotion, ...]
    remembered: frozenset[int]
    events: tuple[Event, ...] = ()
