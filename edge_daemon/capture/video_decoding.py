"""Video decoding with FFmpeg, through PyAV: shared by video files and network streams.

PyAV takes 0.3 s and 18 MB to import, so modules that import this one are imported when needed.
"""

import gc
import itertools
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from edge_daemon.records import Image

DEFAULT_FPS: Final = 30
"""Frame rate of a video without timestamps whose codec does not carry one either.

It is the default of `rpicam-vid`, whose raw H.264 files are the usual case.
"""

DEMUXER_OPTIONS: Final = {
    "framerate": str(DEFAULT_FPS),  # heeded by raw formats only
    "correct_ts_overflow": "0",  # FFmpeg takes a jump back in joined MPEG-TS for an overflow
}

AVFMT_TS_DISCONT: Final = 0x0200
"""FFmpeg's flag of formats whose timestamps can jump; PyAV states a wrong type for its own."""

METADATA_OPTIONS: Final[dict[str, Any]] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""Makes PyAV 18 accept titles in other encodings than UTF-8. PyAV 19 does by itself."""

MIN_STRETCH: Final = 0.02
"""Difference of a pixel's sides from which frames are stretched to square pixels."""

MAX_STRETCH: Final = 4.0
"""Ratio of a pixel's sides that no camera or disc exceeds; a larger one is a damaged header."""

IMAGE_FORMATS: Final = frozenset({"image2", "gif", "apng"})
"""FFmpeg's formats of images, with those that end in `_pipe`; the others are videos."""

MAX_SKIPPED: Final = 250
"""Frames after damage in which a key frame is awaited: the longest interval that x264 makes.

A stream that refreshes its frames piece by piece has no other key frame than the first.
"""

MAX_SKIPPED_S: Final = 8.0
"""The same in seconds, less than the read timeout of a camera."""

MAX_SKEW: Final = 0.01
"""Ratio of a display matrix's small entries to the large ones below which it turns squarely."""


class NoVideo(Exception):
    """Raised for a container without a video stream that can be decoded."""


def open_container(
    source: str | BinaryIO,
    options: dict[str, str] | None = None,
    timeout: tuple[float, float] | None = None,
) -> InputContainer:
    """Open a file or stream.

    Args:
        source: an open file, or an address as FFmpeg takes it; prefix a path with `file:`, or a
            colon in it names a protocol.
        options: of FFmpeg's protocol and demuxer.
        timeout: seconds for opening and for each read.

    Raises:
        FFmpegError: it cannot be opened; the type and `strerror` are the reason.
    """
    container: InputContainer = av.open(
        source,
        "r",
        options=DEMUXER_OPTIONS | (options or {}),
        timeout=timeout,
        **METADATA_OPTIONS,
    )
    return container


def is_single_image(path: Path) -> bool:
    """Whether FFmpeg reads a file as an image with a single frame; False if it cannot be read."""
    if not path.is_file():
        return False
    try:
        with open_container(f"file:{path}") as container:
            name = container.format.name
            if name not in IMAGE_FORMATS and not name.endswith("_pipe"):
                return False
            packets = (packet for packet in container.demux() if packet.size)
            return len(list(itertools.islice(packets, 2))) == 1
    except (FFmpegError, OSError):
        return False


class VideoDecoder:
    """Decodes the main video stream of a container; damaged frames are counted and left out.

    So are those that are built on damaged ones: all up to the next key frame.

    Args:
        container: open; closed by `close`.
        all_cores: decode several frames in parallel, which delays each; not for live streams.

    Raises:
        NoVideo: the container has no video stream that this FFmpeg decodes.
    """

    def __init__(self, container: InputContainer, *, all_cores: bool = False) -> None:
        self.damaged = 0
        """Packets and frames that did not decode, and frames that are built on them."""
        self.end_s = 0.0
        """End of the last packet that the duration includes, on the container's time line."""
        self._container = container
        tracks = _video_tracks(container)
        self._stream = _main_track(tracks)
        self.tracks = len(tracks)
        """Video streams of the container, without cover images."""
        self.track = 1 + tracks.index(self._stream)
        """Number of the decoded one among them, from 1."""
        if all_cores:
            self._stream.thread_type = "AUTO"
        self._pixel_aspect = _pixel_aspect(self._stream)
        self._reformatter = VideoReformatter()
        self._matrix_angle: float | None = None
        """Of the last display matrix that was read, in degrees; None before the first frame."""
        self._matrix: bytes | None = None
        self._damage = _Damage()
        # The last subtitle can end later than the video; in MP4, an empty one fills the rest.
        self._timed_types = {"video", "audio"} | ({"subtitle"} if self._is_matroska else set())
        self._frames = self._decode_all()

    def read(self) -> VideoFrame | None:
        """Decode the next frame; None at the end.

        Raises:
            FFmpegError: the container cannot be read on.
        """
        return next(self._frames, None)

    def to_bgr(self, frame: VideoFrame) -> Image:
        """Convert to BGR uint8 [H, W, 3] of square pixels, turned and mirrored as metadata asks."""
        width = round(frame.width * self._pixel_aspect)
        converted = self._reformatter.reformat(frame, width, format="bgr24")
        pixels = np.asarray(converted.to_ndarray(), np.uint8)
        # A frame and its side data refer to each other, so that the frame stays in memory until
        # the next garbage collection. The matrix is therefore read only when its angle changes.
        if frame.rotation != self._matrix_angle:
            self._matrix_angle, self._matrix = frame.rotation, _display_matrix(frame)
        if self._matrix is not None:
            pixels = _upright(pixels, self._matrix)
        return np.ascontiguousarray(pixels)

    @property
    def frame_interval_s(self) -> float:
        """Seconds from one frame to the next at the stream's nominal rate."""
        rate = self._stream.guessed_rate or self._stream.average_rate or DEFAULT_FPS
        return float(1 / rate)

    @property
    def pixels(self) -> int:
        """Pixels of a frame that the container states; 0 if unknown."""
        return self._stream.width * self._stream.height

    @property
    def start_s(self) -> float:
        """Where the container's time line starts, in seconds."""
        return (self._container.start_time or 0) / av.time_base

    @property
    def duration_s(self) -> float | None:
        """Seconds that the container states, or that FFmpeg estimates; None if unknown."""
        if self.format == "avi":  # FFmpeg shortens the duration of a truncated one
            return self._stream.frames * self.frame_interval_s
        if self._container.duration is None:
            return None
        duration = self._container.duration / av.time_base
        # Matroska states the end: a part of a longer recording keeps its times.
        return duration - self.start_s if self._is_matroska else duration

    @property
    def has_jumps(self) -> bool:
        """Whether timestamps of this format can jump, as where MPEG-TS recordings are joined."""
        return bool(self._container.format.flags & AVFMT_TS_DISCONT)

    @property
    def format(self) -> str:
        """FFmpeg's name of the container's format, such as `matroska,webm`."""
        return self._container.format.name

    @property
    def _is_matroska(self) -> bool:
        return self.format.startswith("matroska")

    def close(self) -> None:
        self._frames.close()
        self._container.close()
        # Frees the frames whose matrix was read: at least one for each opening of a repeated video,
        # and Python's own collection may be an hour away.
        gc.collect()

    def _decode_all(self) -> Generator[VideoFrame, None, None]:
        truncated: set[int] = set()
        for packet in self._container.demux():
            at = packet.dts if packet.pts is None else packet.pts
            if at is not None and packet.stream.type in self._timed_types:
                end = float((at + (packet.duration or 0)) * packet.time_base)
                self.end_s = max(self.end_s, end)
            if packet.stream is not self._stream:
                continue
            # Where timestamps jump, packets at the joints of recordings are marked, too.
            if packet.is_corrupt and at is not None and not self.has_jumps:
                truncated.add(at)
            try:
                frames = packet.decode()
            except InvalidDataError:
                self.damaged += 1
                self._damage.begin()
                continue
            for frame in frames:
                if (
                    not isinstance(frame, VideoFrame)
                    or ((frame.is_corrupt or self._damage.is_noted) and self._damage.affects(frame))
                    or frame.pts in truncated
                ):
                    self.damaged += 1
                else:
                    yield frame


class _Damage:
    """Decides which frames are damaged, or built on a damaged one and so smeared.

    A stream in which no key frame came in time is not made to wait for one again until it has one.
    """

    def __init__(self) -> None:
        self.is_noted = False
        """Whether `affects` must see the next frame, whatever it is."""
        self._lasts = False
        self._has_key_frames = True
        self._skipped = 0
        self._since_s: float | None = None

    def begin(self) -> None:
        """Note that data did not decode."""
        self.is_noted = True
        if self._has_key_frames and not self._lasts:
            self._lasts = True
            self._skipped = 0
            self._since_s = None

    def affects(self, frame: VideoFrame) -> bool:
        """Whether to leave out the next frame."""
        if frame.is_corrupt:
            self.begin()
        elif frame.key_frame:
            self._lasts, self._has_key_frames, self.is_noted = False, True, False
        elif self._lasts and self._has_waited(frame):
            self._lasts = self._has_key_frames = False
        self._skipped += 1
        return frame.is_corrupt or self._lasts

    def _has_waited(self, frame: VideoFrame) -> bool:
        if self._skipped >= MAX_SKIPPED:
            return True
        if frame.time is None:
            return False
        self._since_s = frame.time if self._since_s is None else self._since_s
        return frame.time - self._since_s > MAX_SKIPPED_S


def _display_matrix(frame: VideoFrame) -> bytes | None:
    side_data = cast("SideDataContainer", frame.side_data)  # PyAV's annotation omits most keys
    if SideDataType.DISPLAYMATRIX not in side_data:
        return None
    return bytes(side_data[SideDataType.DISPLAYMATRIX])


def _upright(pixels: Image, matrix: bytes) -> Image:
    """A view of a frame's pixels that is turned as its display matrix asks.

    `VideoFrame.rotation` is the angle only, which a mirrored matrix does not have.
    """
    # A point (x, y) of the frame is shown at (a x + c y, b x + d y).
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()
    if max(abs(b), abs(c)) <= MAX_SKEW * min(abs(a), abs(d)):
        right, down = a, d
    elif max(abs(a), abs(d)) <= MAX_SKEW * min(abs(b), abs(c)):
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    else:
        return pixels
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def _video_tracks(container: InputContainer) -> list[VideoStream]:
    """The video streams without the cover images of audio files.

    Raises:
        NoVideo: there is none.
    """
    tracks = [
        stream
        for stream in container.streams.video
        if Disposition.attached_pic not in stream.disposition
    ]
    if not tracks:
        raise NoVideo("no video stream")
    return tracks


def _main_track(tracks: list[VideoStream]) -> VideoStream:
    """The track that players show: the default one, or else the largest.

    Raises:
        NoVideo: this FFmpeg decodes none.
    """
    decodable = [track for track in tracks if track.codec_context is not None]
    if not decodable:
        raise NoVideo("video codec not supported")
    return max(
        decodable,
        key=lambda track: (Disposition.default in track.disposition, track.width * track.height),
    )


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel by its height; 1 if it is nearly square, unknown or invalid."""
    aspect = float(stream.sample_aspect_ratio or 1)
    is_valid = 1 / MAX_STRETCH <= aspect <= MAX_STRETCH
    return aspect if is_valid and abs(aspect - 1) > MIN_STRETCH else 1.0
