"""Face detectors. `create_detector` is their registry."""

import logging
from pathlib import Path

from edge_daemon._lib.files import bundled_detector
from edge_daemon.config.settings import DetectorName, Settings
from edge_daemon.detection.base import Detector, Framing
from edge_daemon.detection.bundled import BundledDetector
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YUNET, YuNetDetector
from edge_daemon.errors import DetectorError

__all__ = ["Detector", "Framing", "create_detector", "detector_from_settings"]

logger = logging.getLogger(__name__)


def create_detector(
    name: DetectorName,
    model: Path | None,
    fetched_yunet: Path,
    min_score: float,
    min_size: int,
    *,
    threads: int = 1,
) -> Detector:
    """Build a detector.

    Args:
        name: the kind; `auto` is the bundled one, unless `model` is of another kind.
        model: the user's own model file: ONNX for YuNet, a cascade in XML for Haar, a manifest in
            JSON for one made by the trainer.
        fetched_yunet: the file that `edge-daemon models fetch yunet` downloads.
        min_score: minimum score of a new face, 0 to 1 (not for Haar).
        min_size: side of the smallest face to look for, in pixels (Haar).
        threads: of the bundled one; OpenCV has its own setting for the others.

    Raises:
        DetectorError: the model file is missing or invalid.
    """
    if model is not None:
        _check_existence(model)
    if name == "auto":
        name = _kind_of(model)
    logger.info("detector chosen", extra={"detector": name})
    if name == "bundled":
        return BundledDetector(model or bundled_detector(), min_score, threads)
    if name == "yunet":
        return YuNetDetector(model or fetched_yunet, min_score)
    return HaarDetector(min_size, model)


def _check_existence(model: Path) -> None:
    try:
        model.stat()
    except FileNotFoundError as error:
        raise DetectorError(
            f"detection.model: no such file (got {model}); correct the path, or leave it unset "
            "for the bundled detector"
        ) from error
    except OSError as error:
        raise DetectorError(
            f"detection.model: cannot be read: {error.strerror} (got {model}); correct the path or "
            "its permissions"
        ) from error


def _kind_of(model: Path | None) -> DetectorName:
    if model is None or model.suffix == ".json":
        return "bundled"
    return "haar" if model.suffix == ".xml" else "yunet"


def detector_from_settings(settings: Settings) -> Detector:
    """The face detector.

    Raises:
        DetectorError: its model file is missing or invalid.
    """
    options = settings.detection
    fetched = settings.state_dir / YUNET.file
    return create_detector(
        options.detector,
        options.model,
        fetched,
        options.min_score,
        options.min_size,
        threads=settings.inference.threads,
    )
