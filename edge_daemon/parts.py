"""Parts that several commands build from the settings in the same way."""

from typing import Final

from edge_daemon.capture import Source, source_from
from edge_daemon.capture.pause import Pause
from edge_daemon.config import Settings
from edge_daemon.detection import Detector, create_detector
from edge_daemon.detection.download import YUNET

PAUSE_FILE: Final = "paused"


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


def detector_of(settings: Settings) -> Detector:
    """The face detector.

    Raises:
        DetectorError: its model file is not there or cannot be read.
    """
    wanted = settings.detection
    fetched = settings.state_dir / YUNET.file
    return create_detector(
        wanted.detector,
        wanted.model,
        fetched,
        wanted.min_score,
        wanted.min_size,
        threads=settings.inference.threads,
    )
