"""Sources of frames. `create_source` is their registry."""

import contextlib
import logging
from pathlib import Path
from typing import Final

from edge_daemon.capture.base import CapturedFrame, Reader, Source, SourceKind
from edge_daemon.capture.devices import VideoDevice
from edge_daemon.capture.http_camera import HttpCamera
from edge_daemon.capture.image_decoding import READABLE_IMAGE_SUFFIXES
from edge_daemon.capture.images import (
    STILL_LIKE_SUFFIXES,
    ImageFile,
    ImageFolder,
    is_still,
)
from edge_daemon.capture.network import OPEN_TIMEOUT_S, OPENING_SHARE, parse_address
from edge_daemon.capture.picamera import PiCamera
from edge_daemon.capture.status import Pause
from edge_daemon.capture.wrappers import Orientation, Oriented
from edge_daemon.config.settings import Settings
from edge_daemon.errors import SourceError

__all__ = [
    "CapturedFrame",
    "Reader",
    "Source",
    "SourceKind",
    "create_source",
    "pause_from_settings",
    "source_from_settings",
]

logger = logging.getLogger(__name__)

PAUSE_PREFIX: Final = "paused-"
"""Of the file in the state folder; the device_id follows."""

UPRIGHT: Final = Orientation()

ANIMATED_SUFFIXES: Final = frozenset({".gif"})
"""Images that play as a video if they have several frames, unless they are in a folder."""


def create_source(
    spec: str,
    size: tuple[int, int] = (1280, 720),
    fps: float = 30.0,
    max_reduced_side: int | None = None,
    *,
    orientation: Orientation = UPRIGHT,
    verify_certificate: bool = True,
    open_timeout_s: float = OPEN_TIMEOUT_S,
) -> Source:
    """Make the source that `spec` names, not yet open.

    Args:
        spec: `picamera` or `picamera:N`, a device such as `/dev/videoN` or `N`, `rtsp://…` or
            `http(s)://…`, a video file, an image, or a folder of images.
        size: requested width and height of a camera, in pixels.
        fps: requested frames per second of a camera.
        max_reduced_side: longer side of the smaller image that a Pi camera gives next to the full
            one, in pixels.
        orientation: how frames are turned; a Pi camera flips them by itself.
        verify_certificate: whether an encrypted network camera must have a trusted certificate.
        open_timeout_s: limit on opening a network camera.

    Raises:
        SourceError: there is no such file or folder, or the address does not parse.
    """
    if spec == "picamera" or spec.startswith("picamera:"):
        turned = orientation.without_half_turn
        flips = {"hflip": turned.hflip, "vflip": turned.vflip}
        source: Source = PiCamera(_camera_number(spec), size, fps, max_reduced_side, **flips)
        orientation = Orientation(turned.rotation)
    elif spec.isdecimal():
        source = VideoDevice(Path(f"/dev/video{spec}"), size, fps)
    elif _is_device(Path(spec)):
        source = VideoDevice(Path(spec), size, fps)
    elif "://" in spec:
        source = _network_source(
            spec, verify_certificate=verify_certificate, open_timeout_s=open_timeout_s
        )
    else:
        source = _file_source(Path(spec))
    return source if orientation.is_identity else Oriented(source, orientation)


def _network_source(url: str, *, verify_certificate: bool, open_timeout_s: float) -> Source:
    if parse_address(url).scheme.startswith("http"):
        return HttpCamera(url, verify_certificate=verify_certificate, open_timeout_s=open_timeout_s)
    from edge_daemon.capture.streams import NetworkStream

    return NetworkStream(url, verify_certificate=verify_certificate, open_timeout_s=open_timeout_s)


def _camera_number(spec: str) -> int:
    number = spec.partition(":")[2] or "0"
    if not number.isdecimal():
        raise SourceError(f"{spec}: invalid camera number; write it as in picamera:1")
    return int(number)


def _is_device(path: Path) -> bool:
    """Whether a path names a device, or one that is not plugged in: udev can give it any name."""
    if not path.is_relative_to("/dev"):
        return False
    is_shared_memory = path.is_relative_to("/dev/shm")  # noqa: S108  # whose files are the user's
    return path.is_char_device() or not (is_shared_memory or path.exists())


def _file_source(path: Path) -> Source:
    if path.is_dir():
        return ImageFolder(path)
    if not path.exists():
        raise SourceError(
            f"source: no such file, folder or camera (got {path}); correct the path, or name a "
            "camera such as picamera or /dev/video0"
        )
    if _is_image(path):
        return ImageFile(path)
    from edge_daemon.capture.video_decoding import is_single_image
    from edge_daemon.capture.videos import VideoFile

    is_stream = path.suffix.lower() in STILL_LIKE_SUFFIXES
    return VideoFile(path) if is_stream or not is_single_image(path) else ImageFile(path)


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in ANIMATED_SUFFIXES:
        return False
    return suffix in READABLE_IMAGE_SUFFIXES or is_still(path)


def source_from_settings(settings: Settings) -> Source:
    """Make the source of these settings, not yet open.

    Raises:
        SourceError: there is no such file or folder, or the address does not parse.
    """
    capture = settings.capture
    return create_source(
        settings.source,
        (capture.width, capture.height),
        capture.fps,
        settings.detection.max_side,
        orientation=Orientation(capture.rotation, capture.hflip, capture.vflip),
        verify_certificate=capture.verify_certificate,
        open_timeout_s=OPENING_SHARE * capture.read_timeout,
    )


def pause_from_settings(settings: Settings, kind: SourceKind) -> Pause:
    """Make the privacy switch; it is saved for cameras only, as a file has no privacy to keep."""
    if kind is not SourceKind.CAMERA:
        return Pause(None)
    file = settings.state_dir / f"{PAUSE_PREFIX}{settings.device_id}"
    pause = Pause(file)
    if not pause.paused:
        _warn_of_other_pauses(file)
    return pause


def _warn_of_other_pauses(file: Path) -> None:
    """Log the pauses of other devices: after a change of the device_id, one was this camera's."""
    others: list[Path] = []
    with contextlib.suppress(OSError):
        others = sorted(file.parent.glob(f"{PAUSE_PREFIX}*"))
    if others:
        names = ", ".join(each.name.removeprefix(PAUSE_PREFIX) for each in others)
        logger.warning("pause of another device_id ignored", extra={"device_ids": names})
