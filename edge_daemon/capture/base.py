"""What a source of frames is."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from edge_daemon.errors import SourceError
from edge_daemon.records import Image


class SourceIncomplete(SourceError):
    """Raised at the end of a file that gave frames, but fewer than it states."""


@dataclass(frozen=True, eq=False)
class CapturedFrame:
    """A frame from a reader: pixels, and their place in the time of the source."""

    bgr: Image
    """BGR uint8 [H, W, 3]."""
    stream_time_s: float | None = None
    """Seconds from the source's start; None for a camera, whose time is now."""
    scene: int = 0
    """Changes when the frame has nothing to do with the one before it."""
    reduced: Image | None = None
    """The same frame made smaller by the camera, where it does that: BGR uint8."""
    position_s: float | None = None
    """Seconds from the start of the video; None for images and cameras."""
    file: str | None = None
    """Name of the image file, without its folder; None for videos and cameras."""
    reduction: int = 1
    """Pixels of the file's image in one of `bgr`, in each direction."""


class Reader(Protocol):
    """A source that is open."""

    def read(self) -> CapturedFrame | None:
        """The next frame, or None at the source's end.

        Raises:
            SourceLost: a live source gives no more frames.
            SourceError: the source is damaged.
        """
        ...

    def close(self) -> None:
        """Release the device or file. May be called more than once."""
        ...


@runtime_checkable
class SupportsSkip(Reader, Protocol):
    """A reader of frames that arrive also when none is read, and become old in buffers."""

    def skip(self) -> None:
        """Receive the next frame and discard it.

        Raises:
            SourceLost: there are no more.
        """
        ...


@runtime_checkable
class SupportsSchedule(Reader, Protocol):
    """A reader of frames that each have a time at which to show them."""

    def prepare(self) -> float:
        """Read the next frame, which `read` then returns.

        Returns:
            Seconds until its time; 0 if that is now or past.

        Raises:
            SourceError: the source is damaged.
        """
        ...


class SourceKind(Enum):
    """Where the frames of a source come from; its value names it in messages."""

    CAMERA = "a camera"
    """Or a network stream."""
    VIDEO = "a video"
    IMAGE = "an image"
    FOLDER = "a folder of images"

    @property
    def has_stills(self) -> bool:
        """Whether each frame is a photo of its own."""
        return self in {SourceKind.IMAGE, SourceKind.FOLDER}


class Source(Protocol):
    """A source of frames, not yet open."""

    name: str
    """As in the settings, with secrets masked."""
    kind: SourceKind
    """What the frames come from. A source around another one has the kind of that."""
    is_live: bool
    """Whether frames arrive in real time; if not, every frame counts and none may be dropped."""

    def open(self) -> Reader:
        """Open it; a live source may be opened again after a loss.

        Raises:
            SourceLost: a live source is not there now.
            SourceError: there is no such source, or it cannot be read.
        """
        ...
