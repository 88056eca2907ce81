"""Sources around another source: its frames turned, repeated, or played at their own rate."""

import dataclasses
import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

import cv2
import numpy as np

from edge_daemon._lib.clock import Clock
from edge_daemon.capture.base import CapturedFrame, Reader, Source, SourceIncomplete, SupportsSkip
from edge_daemon.errors import SourceError
from edge_daemon.records import Image

logger = logging.getLogger(__name__)

ROTATIONS: Final = MappingProxyType(
    {
        90: cv2.ROTATE_90_CLOCKWISE,
        180: cv2.ROTATE_180,
        270: cv2.ROTATE_90_COUNTERCLOCKWISE,
    }
)


@dataclass(frozen=True)
class Orientation:
    """How to turn a frame: first it is flipped, then rotated."""

    rotation: int = 0
    """Degrees clockwise: 0, 90, 180 or 270."""
    hflip: bool = False
    """Exchange left and right."""
    vflip: bool = False
    """Exchange top and bottom."""

    @property
    def is_identity(self) -> bool:
        return self == Orientation()

    @property
    def without_half_turn(self) -> Self:
        """The same with a half turn written as two flips, as a sensor can read its rows."""
        if self.rotation < 180:
            return self
        return dataclasses.replace(
            self, rotation=self.rotation - 180, hflip=not self.hflip, vflip=not self.vflip
        )

    def apply(self, image: Image) -> Image:
        """A turned copy: uint8 [H, W, 3], or [W, H, 3] after a quarter turn."""
        if self.hflip or self.vflip:
            axis = -1 if self.hflip and self.vflip else int(self.hflip)
            image = np.asarray(cv2.flip(image, axis), np.uint8)
        if self.rotation:
            image = np.asarray(cv2.rotate(image, ROTATIONS[self.rotation]), np.uint8)
        return image


class Oriented:
    """A source whose frames are turned.

    Args:
        source: gives the frames as the camera sees them.
        orientation: how to turn them.
    """

    def __init__(self, source: Source, orientation: Orientation) -> None:
        self.name = source.name
        self.kind = source.kind
        self.is_live = source.is_live
        self.source = source
        self._orientation = orientation

    def open(self) -> Reader:
        """Open the source.

        Raises:
            SourceError: as the source does.
        """
        reader = self.source.open()
        if isinstance(reader, SupportsSkip):
            return _OrientedFlowingReader(reader, self._orientation)
        return _OrientedReader(reader, self._orientation)


class _OrientedReader:
    def __init__(self, reader: Reader, orientation: Orientation) -> None:
        self.close = reader.close
        self._reader = reader
        self._orientation = orientation

    def read(self) -> CapturedFrame | None:
        captured = self._reader.read()
        if captured is None:
            return None
        reduced = None if captured.reduced is None else self._orientation.apply(captured.reduced)
        return dataclasses.replace(
            captured, bgr=self._orientation.apply(captured.bgr), reduced=reduced
        )


class _OrientedFlowingReader(_OrientedReader):
    def __init__(self, reader: SupportsSkip, orientation: Orientation) -> None:
        super().__init__(reader, orientation)
        self.skip = reader.skip


class Repeated:
    """A source of files that starts again at its end; its time goes on.

    Args:
        source: not live.
        max_frames: how many frames to give; None: no limit.
        new_scenes: whether each round is a scene of its own, in which no face is followed on.
    """

    is_live = False

    def __init__(
        self, source: Source, max_frames: int | None = None, *, new_scenes: bool = True
    ) -> None:
        self.name = source.name
        self.kind = source.kind
        self._source = source
        self._max_frames = max_frames
        self._new_scenes = new_scenes

    def open(self) -> "RepeatedReader":
        """Open the first round.

        Raises:
            SourceError: as the source does.
        """
        return RepeatedReader(self._source, self._max_frames, new_scenes=self._new_scenes)


class RepeatedReader:
    """Opens the source again where it ends."""

    def __init__(self, source: Source, max_frames: int | None, *, new_scenes: bool) -> None:
        self._source = source
        self._left = max_frames
        self._new_scenes = new_scenes
        self._reader: Reader = source.open()
        self._frames = 0
        self._is_complete = True
        self._scene = self._next_scene = 0
        self._start_s = self._last_s = self._interval_s = 0.0

    def read(self) -> CapturedFrame | None:
        """Read the next frame; None after the last of a limited number.

        Raises:
            SourceError: a round gives no frame.
        """
        if self._left == 0:
            return None
        captured = self._next() or self._first_of_next_round()
        if self._left is not None:
            self._left -= 1
        self._frames += 1
        time_s = self._start_s + (captured.stream_time_s or 0.0)
        self._interval_s, self._last_s = max(0.0, time_s - self._last_s), time_s
        self._next_scene = self._scene + captured.scene + 1
        return dataclasses.replace(
            captured, scene=self._scene + captured.scene, stream_time_s=time_s
        )

    def close(self) -> None:
        self._reader.close()

    def _next(self) -> CapturedFrame | None:
        """The round's next frame; a truncated file ends a round as any other does."""
        try:
            return self._reader.read()
        except SourceIncomplete as error:
            if self._frames == 0:
                raise
            if self._is_complete:
                self._is_complete = False
                logger.warning("file incomplete, repeating its frames", extra={"error": str(error)})
            return None

    def _first_of_next_round(self) -> CapturedFrame:
        self._reader.close()
        self._reader = self._source.open()
        if self._new_scenes:
            self._scene = self._next_scene
        # The last frame is shown for as long as the one before it.
        self._start_s = self._last_s + self._interval_s
        captured = self._next()
        if captured is None:
            raise SourceError(f"{self._source.name}: has no frame")
        return captured


SLACK_S: Final = 0.02
"""How late a frame may be shown."""

MAX_LATE_S: Final = 1.0
"""Delay that is caught up by leaving out frames; after a longer one, the rest is played later."""


class Playback:
    """A live source made of files: played repeatedly, at their own rate.

    Args:
        source: not live.
        clock: the clock to use.
    """

    is_live = True

    def __init__(self, source: Source, clock: Clock) -> None:
        self.name = source.name
        self.kind = source.kind
        self._source = Repeated(source, new_scenes=False)
        self._clock = clock

    def open(self) -> "PlaybackReader":
        """Open the first round, whose time starts now.

        Raises:
            SourceError: as the source does.
        """
        return PlaybackReader(self._source.open(), self._clock)


class PlaybackReader:
    """Reads each frame for its time, and leaves out those whose time has passed."""

    def __init__(self, reader: RepeatedReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._started_at = clock.monotonic()
        self._time_s = float("-inf")
        self._prepared: CapturedFrame | None = None

    def prepare(self) -> float:
        """Decode the frame that `read` returns next; the caller waits for its time.

        Returns:
            Seconds until that time, which may be minutes in a time-lapse; 0 if it is now or past.

        Raises:
            SourceError: the files are damaged.
        """
        if self._prepared is None:
            self._prepared = self._next_in_time()
        return max(0.0, -self._late_s)

    def read(self) -> CapturedFrame:
        """Return the prepared frame, or the next one if none is prepared, without waiting.

        Raises:
            SourceError: the files are damaged.
        """
        captured, self._prepared = self._prepared or self._next_in_time(), None
        return dataclasses.replace(captured, stream_time_s=None)

    def close(self) -> None:
        self._reader.close()

    @property
    def _late_s(self) -> float:
        """Seconds since the time of the last frame; negative if that is still to come."""
        return self._clock.monotonic() - self._started_at - self._time_s

    def _next_in_time(self) -> CapturedFrame:
        captured = self._next()
        while SLACK_S < self._late_s < MAX_LATE_S:
            captured = self._next()
        if self._late_s >= MAX_LATE_S:
            self._started_at += self._late_s
        return captured

    def _next(self) -> CapturedFrame:
        captured = self._reader.read()
        if captured is None or captured.stream_time_s is None:
            raise SourceError("repeated source ended, this is a bug")
        if captured.stream_time_s <= self._time_s:  # a single image: it is of any time
            self._started_at = self._clock.monotonic() - captured.stream_time_s
        self._time_s = captured.stream_time_s
        return captured
