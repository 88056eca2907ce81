"""The annotated copy of a video: H.264, at the source's own times."""

import contextlib
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final

import av
import cv2
import numpy as np
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from edge_daemon.errors import OutputError
from edge_daemon.output.base import VIDEO_FORMATS, PartialFile
from edge_daemon.output.drawing import FrameAnnotator, annotations_of
from edge_daemon.output.layout import Size
from edge_daemon.records import FrameResult, Image

ENCODER: Final = "libx264"

ENCODER_OPTIONS: Final = MappingProxyType(
    # No look-ahead: the encoder holds no frames, so that a run that is stopped is soon complete.
    {"preset": "veryfast", "crf": "20", "tune": "zerolatency"}
)

TIME_BASE: Final = Fraction(1, 90_000)

PIXEL_FORMAT: Final = "yuv420p"

BT709: Final = 1
"""Colour primaries and transfer characteristics (ITU-T H.273)."""

NOMINAL_RATE: Final = 30
"""Frames per second, for the encoder's rate control only; times are the source's."""


class AnnotatedVideo:
    """Encodes a copy of each frame; the size of the first is that of the video."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = PartialFile(path)
        self._encoder: _Encoder | None = None

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        if frame.is_blank or frame.position_s is None:
            return
        if self._encoder is None:
            size = Size(frame.width, frame.height)
            self._file.lock()
            self._encoder = _Encoder(
                self._file.partial, VIDEO_FORMATS[self.path.suffix.lower()], size
            )
            self._annotator = FrameAnnotator(size)
        size = self._encoder.size
        bgr = _resized(frame.bgr, size)
        scale = size.width / frame.width, size.height / frame.height
        annotations = [annotation.scaled(*scale) for annotation in annotations_of(result)]
        annotated = self._annotator.annotate(bgr, annotations, result.live_tracks)
        self._encoder.encode(annotated, frame.position_s)

    def close(self) -> None:
        if self._encoder is not None:
            self._encoder.close()
            self._file.complete()

    def discard(self) -> None:
        if self._encoder is not None:
            self._encoder.abandon()
        self._file.discard()


class _Encoder:
    """Encodes one video stream into one file.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path, container_format: str, size: Size) -> None:
        self.size = size
        # Without the prefix, a colon in the path names a protocol.
        self._container: OutputContainer = av.open(f"file:{path}", "w", format=container_format)
        self._stream = _add_stream(self._container, size)
        self._reformatter = VideoReformatter()
        self._last_pts = -1
        self._duration = round(1 / NOMINAL_RATE / TIME_BASE)

    def encode(self, bgr: Image, position_s: float) -> None:
        """Add a frame, BGR uint8 [H, W, 3], at its time in seconds.

        Raises:
            OSError: the disk is full, or fails.
            OutputError: the frame cannot be encoded, or not at this time.
        """
        pts = max(self._last_pts + 1, round(position_s / TIME_BASE))
        if self._last_pts >= 0:
            self._duration = pts - self._last_pts
        self._last_pts = pts
        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(_even(bgr), format="bgr24"),
            format=PIXEL_FORMAT,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = pts, TIME_BASE
        self._mux(frame)

    def close(self) -> None:
        """Flush the encoder and write the index.

        Raises:
            OSError: the disk is full, or fails.
            OutputError: the last frames cannot be encoded.
        """
        self._mux(None)
        self._container.close()

    def abandon(self) -> None:
        """Close the file, whatever its state."""
        with contextlib.suppress(FFmpegError):
            self._container.close()

    def _mux(self, frame: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                packet.duration = self._duration  # of the last packet, the container keeps it
                self._container.mux(packet)
        except OSError:
            raise
        except FFmpegError as error:
            at_s = round(float(self._last_pts * TIME_BASE), 3)
            raise OutputError(
                f"--output: the annotated copy cannot be encoded ({error.strerror} at {at_s} s); "
                "write a .mkv, or only a .csv"
            ) from error


def _add_stream(container: OutputContainer, size: Size) -> VideoStream:
    try:
        stream = container.add_stream(ENCODER, rate=NOMINAL_RATE, options=dict(ENCODER_OPTIONS))
    except UnknownCodecError as error:
        raise OutputError(
            f"--output: this PyAV has no encoder {ENCODER}; pip install --force-reinstall av"
        ) from error
    stream.width, stream.height = (side + side % 2 for side in size)
    stream.pix_fmt = PIXEL_FORMAT
    stream.codec_context.time_base = TIME_BASE
    stream.codec_context.colorspace = Colorspace.ITU709
    stream.codec_context.color_range = ColorRange.MPEG
    stream.codec_context.color_primaries = stream.codec_context.color_trc = BT709
    return stream


def _resized(bgr: Image, size: Size) -> Image:
    """The frame in the size of the first one; a stream can change its size."""
    if (bgr.shape[1], bgr.shape[0]) == size:
        return bgr
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)


def _even(bgr: Image) -> Image:
    """The frame with its last row and column repeated as needed: 4:2:0 has even sides only."""
    odd = bgr.shape[0] % 2, bgr.shape[1] % 2
    return np.pad(bgr, ((0, odd[0]), (0, odd[1]), (0, 0)), "edge") if any(odd) else bgr
