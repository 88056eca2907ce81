"""The records that pass through the pipeline. All are frozen; a stage creates new ones.

Frame -> FoundFaces -> TrackedFaces -> FrameResult
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final, Literal, NamedTuple, get_args
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

EmotionName = Literal["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]

EMOTIONS: Final[tuple[EmotionName, ...]] = get_args(EmotionName)
"""In the order of FER2013, which is the column order of every model."""

FaceLabel = Literal[EmotionName, "uncertain", "not scored"]
"""What a face counts as in totals over time."""

FACE_LABELS: Final[tuple[FaceLabel, ...]] = get_args(FaceLabel)


def face_label(emotion: EmotionName | None, *, uncertain: bool) -> FaceLabel:
    """What a face with this emotion counts as; of an uncertain one, no emotion is counted."""
    if emotion is None:
        return "not scored"
    return "uncertain" if uncertain else emotion


CROP_SIDE: Final = 48
"""Side of the crop that the models read, in pixels."""

MAX_IMAGE_PIXELS: Final = 8192 * 8192
"""Of a decoded image, which then takes 200 MB. Larger JPEGs are reduced while they are decoded."""

Image = NDArray[np.uint8]
"""BGR uint8 [H, W, 3], or grey uint8 [H, W], as documented where it is used."""

Landmarks = NDArray[np.float32]
"""float32 [5, 2], x and y of: right eye, left eye, nose, right and left mouth corner.

Right and left are the person's, so the right eye is on the left of the image.
"""

MIRRORED_LANDMARKS: Final = [1, 0, 2, 4, 3]
"""The landmarks' order in a mirrored image, where right and left change places."""

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

    def iou(self, other: "Box") -> float:
        """Intersection over union with another box, 0 to 1."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        shared = max(0.0, width) * max(0.0, height)
        return shared / (self.width * self.height + other.width * other.height - shared)


class SourceState(StrEnum):
    """State of the source."""

    STARTING = "starting"
    RUNNING = "running"
    LOST = "lost"
    PAUSED = "paused"


def black_image(shape: tuple[int, ...]) -> Image:
    """A black image of this shape, in a single byte of memory."""
    return np.broadcast_to(np.uint8(0), shape)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image from a source."""

    index: int
    """Number of the frame, from 0; dropped frames leave gaps."""
    scene: int
    """Frames of one scene are consecutive in time; tracking restarts at a new scene."""
    bgr: Image
    """BGR uint8 [H, W, 3]."""
    captured_at: datetime
    """UTC; in a video file, at the video's pace from its first frame."""
    captured_monotonic_s: float
    """When the frame was read, on the monotonic clock in seconds; latency starts here."""
    stream_time_s: float
    """Seconds on the time line of the source, which does not depend on the speed of reading."""
    reduced: Image | None = None
    """The same image scaled down by the camera, if it does that: BGR uint8."""
    is_blank: bool = False
    """Black, because no image comes; all faces have left."""
    position_s: float | None = None
    """Seconds from the start of the video that is read, also while it repeats; None otherwise."""
    file: str | None = None
    """Name of the image file, without its folder; None for videos and cameras."""
    reduction: int = 1
    """Pixels of the source in one of `bgr`, in each direction: more than 1 for very large JPEGs."""

    @property
    def width(self) -> int:
        return int(self.bgr.shape[1])

    @property
    def height(self) -> int:
        return int(self.bgr.shape[0])


@dataclass(frozen=True, eq=False)
class Detection:
    """One detected face, in pixels of the detector's input image."""

    box: Box
    score: float
    """Confidence of the detector, 0 to 1."""
    landmarks: Landmarks | None = None

    def scaled(self, scale: float) -> "Detection":
        """The same face in an image `scale` times as large."""
        if scale == 1:
            return self
        x, y, width, height = self.box
        return Detection(
            Box(scale * x, scale * y, scale * width, scale * height),
            self.score,
            None if self.landmarks is None else self.landmarks * np.float32(scale),
        )

    def translated(self, x: float, y: float) -> "Detection":
        """The same face, moved by some pixels."""
        box = self.box._replace(x=self.box.x + x, y=self.box.y + y)
        landmarks = (
            None if self.landmarks is None else self.landmarks + np.array((x, y), np.float32)
        )
        return Detection(box, self.score, landmarks)


class Unscored(StrEnum):
    """Why a face is published without an emotion."""

    TOO_SMALL = "too_small"
    TOO_BLURRED = "too_blurred"
    PROFILE = "profile"


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one frame."""

    detection: Detection
    crop: Image
    """Grey uint8 [48, 48], framed like the training images."""
    unscored: Unscored | None


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """A frame and its faces."""

    frame: Frame
    faces: tuple[Face, ...]


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face and its track: the same number for the same visit."""

    track_id: int
    face: Face


@dataclass(frozen=True, eq=False)
class TrackedFaces:
    """A frame, its faces by track, and all live tracks."""

    frame: Frame
    faces: tuple[TrackedFace, ...]
    live_tracks: frozenset[int]
    """All live tracks, including those without a face at the moment."""


@dataclass(frozen=True, eq=False)
class FaceEmotion:
    """A tracked face and its emotion; without one if it is not scored."""

    track_id: int
    face: Face
    raw: Probabilities | None
    """From this frame alone."""
    probabilities: Probabilities | None
    """Smoothed over time."""
    uncertain: bool
    """Whether the confidence is below `smoothing.uncertain_below`."""
    members: int
    """Number of members used."""

    @cached_property
    def emotion(self) -> EmotionName | None:
        return None if self.probabilities is None else EMOTIONS[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float | None:
        return None if self.probabilities is None else float(self.probabilities.max())


class EventKind(StrEnum):
    """Kinds of events."""

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
    emotion: EmotionName | None
    """The emotion from now on; of a face that left, its last."""
    previous: EmotionName | None
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
    """The result for a frame, which the sinks publish."""

    frame: Frame
    faces: tuple[FaceEmotion, ...]
    live_tracks: frozenset[int]
    events: tuple[Event, ...] = ()
