"""The daemon's face search in single images, with default settings."""

from pathlib import Path

from edge_daemon.analysis import StillFinder
from edge_daemon.config.settings import DetectionSettings, QualitySettings, default_state_dir
from edge_daemon.detection import create_detector
from edge_daemon.detection.yunet import YUNET


def still_finder(detector_model: Path | None) -> StillFinder:
    """A function that finds and crops the faces of an image, as the daemon does.

    Args:
        detector_model: a YuNet, a Haar cascade or a `detector.json`; None is the detector that
            comes with the daemon.

    Raises:
        DetectorError: the file is missing or damaged.
    """
    settings = DetectionSettings()
    detector = create_detector(
        "auto",
        detector_model,
        default_state_dir() / YUNET.file,
        settings.min_score,
        settings.min_size,
    )
    return StillFinder(detector, settings.max_side, QualitySettings())
