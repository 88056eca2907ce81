"""Sources of frames. `source_from` is their registry: it knows which one a user's words mean."""

from pathlib import Path
from typing import Final

from edge_daemon._lib.text import without_password
from edge_daemon.capture.base import Picture, Reader, Source
from edge_daemon.capture.images import IMAGE_SUFFIXES, ImageFile, ImageFolder
from edge_daemon.capture.pause import Pause
from edge_daemon.capture.picamera import PiCamera
from edge_daemon.capture.video_device import NetworkStream, VideoDevice
from edge_daemon.config.settings import Settings
from edge_daemon.errors import SourceError

__all__ = ["Picture", "Reader", "Source", "pause_of", "source_from", "source_of"]

PAUSE_FILE: Final = "paused"

ANIMATED_SUFFIXES: Final = frozenset({".gif"})
"""Images that play as a video, unless they are among those of a folder."""


def source_from(
    spec: str,
    size: tuple[int, int] = (1280, 720),
    fps: float = 30.0,
    reduced_width: int | None = None,
) -> Source:
    """The source that `spec` names, not yet open.

    Args:
        spec: `picamera` or `picamera:N`, `/dev/videoN` or `N`, `rtsp://…` or `http(s)://…`,
            a video file, a picture, or a folder of pictures.
        size: width and height asked of a camera, in pixels.
        fps: frames a second asked of a camera.
        reduced_width: width of the smaller picture that a Pi camera gives beside the full one.

    Raises:
        SourceError: there is no such file or folder.
    """
    if spec == "picamera" or spec.startswith("picamera:"):
        return PiCamera(_camera_number(spec), size, fps, reduced_width)
    if spec.isdecimal() or spec.startswith("/dev/"):
        return VideoDevice(Path(f"/dev/video{spec}" if spec.isdecimal() else spec), size, fps)
    if spec.startswith(("rtsp://", "rtsps://", "http://", "https://")):
        return NetworkStream(spec)
    if "://" in spec:
        raise SourceError(f"{without_password(spec)}: only rtsp, rtsps, http and https are known")
    return _file_source(Path(spec))


def _camera_number(spec: str) -> int:
    number = spec.partition(":")[2] or "0"
    if not number.isdecimal():
        raise SourceError(f"{spec}: the camera's number must be a whole number, as in picamera:1")
    return int(number)


def _file_source(path: Path) -> Source:
    if path.is_dir():
        return ImageFolder(path)
    if not path.exists():
        raise SourceError(f"{path}: no such file, folder or camera")
    if path.suffix.lower() in IMAGE_SUFFIXES - ANIMATED_SUFFIXES:
        return ImageFile(path)
    from edge_daemon.capture.videos import VideoFile

    return VideoFile(path)


def source_of(settings: Settings) -> Source:
    """The source, not yet open.

    Raises:
        SourceError: there is no such file or folder.
    """
    wanted = settings.capture
    return source_from(
        settings.source,
        (wanted.width, wanted.height),
        wanted.fps,
        settings.detection.max_side,
    )


def pause_of(settings: Settings, *, live: bool) -> Pause:
    """The privacy switch; it is remembered for cameras, as a file has no privacy to keep."""
    return Pause(settings.state_dir / PAUSE_FILE if live else None)
