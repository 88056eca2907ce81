"""Live frames from a camera at the Raspberry Pi's own port, through picamera2.

picamera2 comes with the Pi's system and is found nowhere else, so it is imported when a camera is
opened, and not before. The protocols here hold what is used of it.
"""

import contextlib
import importlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Protocol

import cv2
import numpy as np

from edge_daemon.capture.base import CapturedFrame, SourceKind
from edge_daemon.errors import SourceError, SourceLost
from edge_daemon.records import Image

logger = logging.getLogger(__name__)

FRAME_TIMEOUT_S: Final = 5.0
"""Seconds to wait for a frame. libcamera gives a sensor up after 1 s, but reports it to no one."""

MAX_FRAME_DURATION_US: Final = 100_000
"""Microseconds from one frame to the next at most: libcamera drops a sensor's first frames, which
must not take as long as FRAME_TIMEOUT_S. The capture loop paces the reads."""

BUFFERS: Final = 4
"""Frames in the camera's memory: one that is copied, and enough others for the next ones."""

MAX_ROUNDING_PX: Final = 2
"""Pixels by which a side may miss the full frame's shape, because streams have even sides."""

BGR_CONVERSIONS: Final[Mapping[str, int | None]] = {
    "RGB888": None,  # named from the highest byte down: blue comes first in memory
    "BGR888": cv2.COLOR_RGB2BGR,
    "XRGB8888": cv2.COLOR_BGRA2BGR,
    "XBGR8888": cv2.COLOR_RGBA2BGR,
    "YUV420": cv2.COLOR_YUV2BGR_I420,
    "YVU420": cv2.COLOR_YUV2BGR_YV12,
    "NV12": cv2.COLOR_YUV2BGR_NV12,
    "NV21": cv2.COLOR_YUV2BGR_NV21,
}
"""How OpenCV makes BGR of each of libcamera's formats; None where it is BGR already."""


class Request(Protocol):
    """One captured moment, in the camera's memory until it is released."""

    def make_array(self, name: str) -> Image:
        """A copy of a stream's pixels, in its own format, with one row of bytes a row."""
        ...

    def release(self) -> None: ...


class Camera(Protocol):
    """What is used of a `Picamera2`."""

    is_open: bool
    notifyme_r: int
    notifyme_w: int
    """The two ends of a pipe, by which its threads wake each other."""

    @property
    def camera_controls(self) -> Mapping[str, Any]: ...

    def create_video_configuration(
        self,
        *,
        main: Mapping[str, Any],
        lores: Mapping[str, Any] | None,
        raw: None,
        buffer_count: int,
        controls: Mapping[str, Any],
        queue: bool,
    ) -> dict[str, Any]: ...

    def configure(self, camera_config: dict[str, Any]) -> None: ...

    def camera_configuration(self) -> dict[str, Any]: ...

    def start(self) -> None: ...

    def capture_request(self, *, wait: float) -> Request: ...

    def close(self) -> None: ...


class PiCamera:
    """A camera that libcamera knows.

    Args:
        number: which one, counted from 0 as `rpicam-hello --list-cameras` does.
        size: requested width and height, in pixels; the camera may choose others.
        fps: requested frames per second.
        max_reduced_side: longer side in pixels of the smaller image that the camera gives next to
            the full one, at no cost for the processor; None for no smaller image.
        hflip: whether the sensor exchanges left and right.
        vflip: whether it exchanges top and bottom.
    """

    kind = SourceKind.CAMERA
    is_live = True

    def __init__(
        self,
        number: int,
        size: tuple[int, int],
        fps: float,
        max_reduced_side: int | None,
        *,
        hflip: bool = False,
        vflip: bool = False,
    ) -> None:
        self.name = f"picamera:{number}" if number else "picamera"
        self._number = number
        self._size = size
        self._fps = fps
        self._max_reduced_side = max_reduced_side
        self._flips = {"hflip": hflip, "vflip": vflip}

    def open(self) -> "PiCameraReader":
        """Start the camera.

        Raises:
            SourceLost: there is no such camera now, or another program has it.
            SourceError: picamera2 cannot be imported, or the camera gives an unknown format.
        """
        picamera2 = self._library()
        try:
            camera = self._acquired(picamera2)
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(_close, camera)
                camera.configure(self._configuration(camera))
                reader = PiCameraReader(self.name, camera)
                camera.start()
                on_failure.pop_all()
        except SourceError:
            raise
        except Exception as error:  # picamera2 raises RuntimeError above all, but promises nothing
            cause = error.__cause__ or error
            raise SourceLost(
                f"{self.name}: cannot be opened ({cause}); check that no other program uses it"
            ) from error
        return reader

    def _library(self) -> ModuleType:
        try:
            # Unlike an import statement, this has a type where picamera2 is missing.
            return importlib.import_module("picamera2")
        except Exception as error:  # a part compiled for another NumPy raises ValueError
            raise SourceError(
                f"{self.name}: picamera2 cannot be imported ({error}); on a Raspberry Pi: apt "
                "install python3-picamera2, and make the virtual environment with "
                "--system-site-packages"
            ) from error

    def _acquired(self, picamera2: ModuleType) -> Camera:
        """The camera, ours from now on; where that fails, nothing stays open."""
        camera_type = picamera2.Picamera2
        if self._number >= (count := len(camera_type.global_camera_info())):
            raise SourceLost(
                f"{self.name}: no such camera, there are {count}; see rpicam-hello --list-cameras"
            )
        # Made in two steps: what a failed constructor leaves open, only the object knows.
        camera: Camera = camera_type.__new__(camera_type)
        try:
            camera_type.__init__(camera, self._number)
        except BaseException:
            _close_failed(camera)
            raise
        return camera

    def _configuration(self, camera: Camera) -> dict[str, Any]:
        """What is asked of the camera: the Pi's image processor does colours and shrinking."""
        microseconds = min(round(1_000_000 / self._fps), MAX_FRAME_DURATION_US)
        rate = {"FrameDurationLimits": (microseconds, microseconds)}
        return camera.create_video_configuration(
            main={"size": self._size, "format": "RGB888"},
            lores=self._reduced_stream(),
            raw=None,  # else its buffers, the largest of all, are kept for nothing
            buffer_count=BUFFERS,
            controls=rate if "FrameDurationLimits" in camera.camera_controls else {},
            **self._transform(),
            queue=False,  # a queued frame may be as old as the time between two frames
        )

    def _transform(self) -> dict[str, Any]:
        """Flips, which cost nothing in the sensor; nothing where none is wanted."""
        if not any(self._flips.values()):
            return {}
        libcamera = importlib.import_module("libcamera")
        return {"transform": libcamera.Transform(**self._flips)}

    def _reduced_stream(self) -> dict[str, Any] | None:
        if self._max_reduced_side is None:
            return None
        size = reduced_size(self._size, self._max_reduced_side)
        # A Pi 4 gives the second stream in YUV only.
        return None if size is None else {"size": size, "format": "YUV420"}


def reduced_size(size: tuple[int, int], max_side: int) -> tuple[int, int] | None:
    """The size of a smaller stream, whose sides must be even.

    Args:
        size: width and height of the full stream, in pixels.
        max_side: the longer side of the smaller one, in pixels.

    Returns:
        Width and height in pixels; None if the full stream is not larger.
    """
    longer = max_side - max_side % 2
    if longer >= max(size):
        return None
    width, height = (max(2, 2 * round(side * longer / max(size) / 2)) for side in size)
    return width, height


class PiCameraReader:
    """Reads a camera that is configured, and lets go of it in the end.

    Raises:
        SourceError: the camera gives a format that is not known here.
    """

    def __init__(self, name: str, camera: Camera) -> None:
        self._name = name
        self._camera = camera
        self._streams = _streams(name, camera.camera_configuration())
        logger.info(
            "camera configured",
            extra={"source": name, "streams": ", ".join(map(str, self._streams))},
        )

    def read(self) -> CapturedFrame:
        """Wait for the next frame.

        Raises:
            SourceLost: none came in time, or picamera2 failed.
        """
        pixels = self._captured()
        full, *reduced = (
            stream.bgr(array) for stream, array in zip(self._streams, pixels, strict=True)
        )
        return CapturedFrame(full, reduced=reduced[0] if reduced else None)

    def close(self) -> None:
        _close(self._camera)

    def _captured(self) -> list[Image]:
        """Copies of what the streams show, all of the same moment, each in its own format."""
        try:
            request = self._camera.capture_request(wait=FRAME_TIMEOUT_S)
            try:
                return [request.make_array(stream.name) for stream in self._streams]
            finally:
                request.release()
        except TimeoutError as error:
            raise SourceLost(
                f"{self._name}: no frame for {FRAME_TIMEOUT_S:g} s; check the camera's cable"
            ) from error
        except Exception as error:
            raise SourceLost(f"{self._name}: gives no more frames ({error})") from error


@dataclass(frozen=True)
class CameraStream:
    """One of a camera's streams, as it was configured in the end."""

    name: str
    """picamera2's name of it."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    format: str
    """One of BGR_CONVERSIONS."""

    def __str__(self) -> str:
        return f"{self.name} {self.width}x{self.height} {self.format}"

    def bgr(self, pixels: Image) -> Image:
        """BGR uint8 [height, width, 3], from an array of the stream's own format."""
        conversion = BGR_CONVERSIONS[self.format]
        if conversion is not None:
            pixels = np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)
        # picamera2 cuts the padding off the rows' ends, except where chroma rows are half as long.
        return np.ascontiguousarray(pixels[:, : self.width])

    def is_reduced(self, full: "CameraStream") -> bool:
        """Whether this is smaller than `full`, and of its shape but for sides made even."""
        scale = max(self.width, self.height) / max(full.width, full.height)
        differences = (self.width - scale * full.width, self.height - scale * full.height)
        return scale < 1 and all(abs(difference) <= MAX_ROUNDING_PX for difference in differences)


def _streams(name: str, configuration: Mapping[str, Any]) -> list[CameraStream]:
    """The full stream, and the reduced one where the camera gives it as it was asked to."""
    full = _stream(name, "main", configuration["main"])
    if configuration["lores"] is None:
        return [full]
    reduced = _stream(name, "lores", configuration["lores"])
    return [full, reduced] if reduced.is_reduced(full) else [full]


def _stream(camera: str, name: str, configuration: Mapping[str, Any]) -> CameraStream:
    width, height = configuration["size"]
    if (format_ := configuration["format"]) not in BGR_CONVERSIONS:
        raise SourceError(
            f"{camera}: unsupported format {format_}, supported are {', '.join(BGR_CONVERSIONS)}; "
            "for a USB camera, name its device, such as /dev/video0"
        )
    return CameraStream(name, width, height, format_)


def _close(camera: Camera) -> None:
    """Close it; the second time does nothing, and errors are logged: they have no remedy.

    Not `stop` first: after a time-out, that waits for ever behind the capture that was given up.
    `close` ends the thread in which both would run, and then stops the camera by itself.
    """
    try:
        camera.close()
    except Exception:
        logger.warning("camera close failed", exc_info=True)


def _close_failed(camera: Camera) -> None:
    """Free what a constructor that failed has taken: the camera, or else its end of a pipe.

    picamera2 0.3.38 closes that end in `close`, but only for a camera that it has opened. One file
    lost a try is soon too many, because the capture loop tries for as long as the camera is busy.
    """
    if getattr(camera, "is_open", False):
        _close(camera)
        return
    with contextlib.suppress(AttributeError, OSError):
        # Still the pipe? A later picamera2 may close it, and then the number is another file's.
        if os.path.sameopenfile(camera.notifyme_r, camera.notifyme_w):
            os.close(camera.notifyme_w)
