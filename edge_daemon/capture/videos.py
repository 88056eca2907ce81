"""Frames from a video file, every one of them."""

import logging
import math
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from av.error import FFmpegError, InvalidDataError
from av.video.frame import VideoFrame

from edge_daemon.capture.base import CapturedFrame, SourceIncomplete, SourceKind
from edge_daemon.capture.video_decoding import NoVideo, VideoDecoder, open_container
from edge_daemon.errors import SourceError
from edge_daemon.records import Image

logger = logging.getLogger(__name__)

FORMATS_WITH_DURATION: Final = frozenset({"mov", "matroska", "webm", "avi", "flv", "asf"})
"""Formats whose header or index states the duration; FFmpeg estimates that of others."""

MAX_SHORTFALL: Final = 0.02
"""Part of the stated duration that may be missing at the end: some writers round it up."""

MIN_SHORTFALL_S: Final = 0.5
"""Seconds that may be missing of any file: the last frame's duration is often unknown."""


class VideoFile:
    """A video file that FFmpeg can read."""

    kind = SourceKind.VIDEO
    is_live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._log_level = logging.WARNING

    def open(self) -> "VideoFileReader":
        """Open it. Damage is logged as a warning by the first reader only: a video can repeat.

        Raises:
            SourceError: it cannot be read, or holds no video.
        """
        try:
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(f"{self.name}: not a regular file")
            if status.st_size == 0:
                raise SourceError(f"{self.name}: the file is empty")
            container = open_container(f"file:{self._path}")
        except InvalidDataError as error:
            raise SourceError(f"{self.name}: not a video or image, or damaged") from error
        except (FFmpegError, OSError) as error:
            raise SourceError(f"{self.name}: {error.strerror}") from error
        try:
            decoder = VideoDecoder(container, all_cores=True)
        except NoVideo as error:
            container.close()
            raise SourceError(
                f"source: {error} (got {self.name}); name a video, an image or a folder of images"
            ) from error
        level, self._log_level = self._log_level, logging.DEBUG
        if decoder.tracks > 1:
            extra = {"source": self.name, "track": decoder.track, "of": decoder.tracks}
            logger.log(min(level, logging.INFO), "several video tracks, reading one", extra=extra)
        return VideoFileReader(self.name, decoder, level)


class VideoFileReader:
    """Reads to the end; an early end and damaged frames are reported."""

    def __init__(self, name: str, decoder: VideoDecoder, log_level: int = logging.WARNING) -> None:
        self._name = name
        self._log_level = log_level
        self._decoder = decoder
        self._cuts = CutDetector()
        self._scene = 0
        self._time_line = TimeLine(
            decoder.start_s, decoder.frame_interval_s, has_jumps=decoder.has_jumps
        )

    def read(self) -> CapturedFrame | None:
        """Decode the next frame.

        Raises:
            SourceIncomplete: the file ends before its stated duration.
            SourceError: no frame can be decoded.
        """
        try:
            frame = self._decoder.read()
        except FFmpegError as error:
            raise self._incomplete(str(error.strerror)) from error
        if frame is None:
            self._check_end()
            return None
        if self._time_line.frames == 0 and frame.pts is None:
            fps = round(1 / self._decoder.frame_interval_s, 3)
            extra = {"source": self._name, "fps": fps}
            level = min(self._log_level, logging.INFO)
            logger.log(level, "video without timestamps, using its nominal frame rate", extra=extra)
        position = self._time_line.position_of(frame)
        bgr = self._decoder.to_bgr(frame)
        self._scene += self._cuts.is_cut(bgr, position)
        return CapturedFrame(bgr, position, self._scene, position_s=position)

    def close(self) -> None:
        self._decoder.close()

    def _check_end(self) -> None:
        if self._decoder.damaged:
            extra = {"source": self._name, "frames": self._decoder.damaged}
            logger.log(self._log_level, "damaged frames skipped", extra=extra)
        if self._time_line.frames == 0:
            raise SourceError(f"{self._name}: no frame can be decoded without damage")
        stated = self._decoder.duration_s
        if stated is None or FORMATS_WITH_DURATION.isdisjoint(self._decoder.format.split(",")):
            return
        missing = self._decoder.start_s + stated - self._decoder.end_s
        if missing > max(MIN_SHORTFALL_S, MAX_SHORTFALL * stated, 2 * self._time_line.gap_s):
            raise self._incomplete(f"{missing:.1f} s of {stated:.1f} s are missing")

    def _incomplete(self, problem: str) -> SourceIncomplete:
        return SourceIncomplete(
            f"{self._name}: truncated or damaged: {problem} after {self._time_line.frames} frames"
        )


COMPARED_SIZE: Final = (128, 72)
"""Width and height in which two frames are compared for a cut."""

BLOCK: Final = (16, 12)
REACH: Final = (12, 8)
"""Width and height of a block of a frame, and how far it may move to the next one."""

MIN_CHANGE: Final = 3.0
"""Mean change of a pixel, in grey levels, below which a frame is not examined further."""
NOISE_SIGMA: Final = 0.8
"""Pixels of the blur that removes noise and slight shifts."""

MIN_CORRELATION: Final = 0.97
"""Correlation of two frames above which they are surely of one shot."""

MIN_MOVED_CORRELATION: Final = 0.95
"""The same for the best place of the middle of one frame in the other, as the camera turns."""

MIN_BLOCK_CORRELATION: Final = 0.9
"""Correlation of a block with its best place in the other frame above which it is found again."""

MAX_FOUND: Final = 0.6
"""Share of the blocks below which another shot begins.

It finds 118 of 120 cuts between photos of people in the same place. Changes of light, shifts by a
fifth, zoom by 15 %, rotation by 5 degrees or a third of the frame covered are hardly ever cuts.
"""

MIN_BLOCKS: Final = 6
"""Blocks with structure in both frames that a comparison needs."""

MIN_DEVIATION: Final = 4.0
"""Standard deviation of grey values, 0 to 255, in a block with structure."""

MAX_WHITENED: Final = 0.1
MAX_DARKENED: Final = 0.02
"""Shares of pixels that become white, and darker: more white ones, and fewer darker ones, are a
flash, which leaves nothing to compare.
"""

MIN_SHOT_S: Final = 0.4
"""Seconds after a change of the whole frame in which no cut is found: it shakes, or flickers."""

WHITE: Final = 245


class CutDetector:
    """Finds the frames of a video at which another shot begins, often of another person.

    Dissolves are not found, nor cuts during fast motion.
    """

    def __init__(self) -> None:
        self._last: Image | None = None
        """The last frame with structure, grey and small."""
        self._changed_s = -math.inf

    def is_cut(self, bgr: Image, position_s: float) -> bool:
        """Whether this frame, BGR uint8 [H, W, 3], begins a shot."""
        grey = _reduced(bgr)
        last = grey if self._last is None else self._last
        # In each frame, so not by NumPy's `std`, which takes ten times as long.
        _, deviation = cv2.meanStdDev(grey)
        if deviation[0, 0] < MIN_DEVIATION:
            return False
        is_changed = cv2.norm(last, grey, cv2.NORM_L1) >= MIN_CHANGE * grey.size
        if is_changed and _is_flash(last, grey):
            return False
        # After a small change, too: slow motion adds up, until blocks are out of reach.
        self._last = grey
        if not is_changed or _correlation(last, grey) >= MIN_CORRELATION or _is_moved(last, grey):
            return False
        found = list(_found_blocks(last, grey))
        if len(found) < MIN_BLOCKS or np.mean(found) >= MAX_FOUND:
            return False
        since_s, self._changed_s = position_s - self._changed_s, position_s
        return since_s >= MIN_SHOT_S


def _reduced(bgr: Image) -> Image:
    """A frame as it is compared: grey, by the green channel, small and without noise."""
    # A mean of all pixels would cost more than the rest of the comparison.
    (width, height), (rows, columns) = COMPARED_SIZE, bgr.shape[:2]
    step = max(1, round(min(columns / width, rows / height) / 2))
    sampled = np.ascontiguousarray(bgr[::step, ::step, 1])
    small = cv2.resize(sampled, COMPARED_SIZE, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), NOISE_SIGMA), np.uint8)


def _is_flash(last: Image, grey: Image) -> bool:
    """Whether a frame is the last one in so much light that little structure is left."""
    whitened = np.mean(grey >= WHITE) - np.mean(last >= WHITE)
    return bool(whitened > MAX_WHITENED and np.mean(cv2.subtract(last, grey) > 10) < MAX_DARKENED)


def _correlation(image: Image, part: Image) -> float:
    """The correlation of a part with its best place in an image."""
    return float(cv2.matchTemplate(image, part, cv2.TM_CCOEFF_NORMED).max())


def _is_moved(last: Image, grey: Image) -> bool:
    """Whether one frame is the other one, moved by up to a quarter of its sides."""
    height, width = grey.shape
    middle = slice(height // 4, -height // 4), slice(width // 4, -width // 4)
    best = max(_correlation(last, grey[middle]), _correlation(grey, last[middle]))
    return best >= MIN_MOVED_CORRELATION


def _found_blocks(last: Image, grey: Image) -> Iterator[bool]:
    """Whether each block of a frame that has structure in both is found again in the last one."""
    (width, height), (right, down) = BLOCK, REACH
    padded = cv2.copyMakeBorder(last, down, down, right, right, cv2.BORDER_REFLECT)
    for top in range(0, grey.shape[0], height):
        for left in range(0, grey.shape[1], width):
            block = grey[top : top + height, left : left + width]
            before = last[top : top + height, left : left + width]
            if min(block.std(), before.std()) >= MIN_DEVIATION:
                around = padded[top : top + height + 2 * down, left : left + width + 2 * right]
                yield _correlation(np.asarray(around, np.uint8), block) >= MIN_BLOCK_CORRELATION


MAX_STEP_S: Final = 10.0
"""Seconds between two frames above which joined recordings have jumped, as in FFmpeg's program."""


class TimeLine:
    """Places frames on a time line that starts at 0 and always advances.

    Raw streams have no timestamps, and joined or damaged ones jump: there, a frame follows the one
    before at the nominal rate. So does one that repeats the last timestamp, as in recordings of
    network cameras whose packets arrive in bursts; the next one has its own time again.

    Args:
        start_s: timestamp of the container's start, in seconds.
        interval_s: seconds from one frame to the next at the nominal rate.
        has_jumps: whether a jump ahead can be one of the timestamps only.
    """

    def __init__(self, start_s: float, interval_s: float, *, has_jumps: bool) -> None:
        self.frames = 0
        self.gap_s = interval_s
        """Seconds between the last two frames."""
        self._timestamps = _Timestamps()
        self._offset_s = -start_s
        self._interval_s = interval_s
        self._has_jumps = has_jumps
        self._last_s = -interval_s
        self._last_timestamp_s: float | None = None

    def position_of(self, frame: VideoFrame) -> float:
        """Seconds from the start of the video to this frame, which follows the last one."""
        expected = self._last_s + self._interval_s
        time_s = self._timestamps.best_of(frame)
        position = expected if time_s is None else time_s + self._offset_s
        max_step_s = max(MAX_STEP_S, 2 * self._interval_s, 2 * self.gap_s)
        is_jump = self._has_jumps and position - self._last_s > max_step_s
        if position <= self._last_s or is_jump:
            position = self._corrected(expected, position, time_s)
        self._last_timestamp_s = time_s
        if self.frames:
            self.gap_s = position - self._last_s
        self.frames += 1
        self._last_s = position
        return position

    def _corrected(self, expected: float, position: float, time_s: float | None) -> float:
        """The place of a frame whose timestamp does not advance the line, or jumps."""
        if time_s is not None and self._last_timestamp_s is not None and position <= self._last_s:
            step_s = time_s - self._last_timestamp_s
            if step_s == 0:
                return expected
            if step_s > 0:  # until the timestamps have caught up after repetitions
                return self._last_s + step_s / 2
        self._offset_s += expected - position
        return expected


class _Timestamps:
    """Chooses between a frame's PTS and DTS.

    AVI stores no PTS, so those of a video with B-frames are out of order. As in FFmpeg's
    best-effort timestamps, the kind that has run back less often is the right one.
    """

    def __init__(self) -> None:
        self._last_pts = self._last_dts = -math.inf
        self._pts_faults = self._dts_faults = 0
        """How often either has not advanced."""

    def best_of(self, frame: VideoFrame) -> float | None:
        """Seconds on the container's time line; None for a frame without timestamps."""
        pts, dts = frame.pts, frame.dts
        if pts is not None:
            self._pts_faults += pts <= self._last_pts
            self._last_pts = pts
        if dts is not None:
            self._dts_faults += dts <= self._last_dts
            self._last_dts = dts
        is_pts_best = dts is None or self._pts_faults <= self._dts_faults
        best = pts if is_pts_best and pts is not None else dts
        return None if best is None else float(best * (frame.time_base or 0))
