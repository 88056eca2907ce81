"""Face detectors. `create_detector` is their registry."""

import logging
from pathlib import Path

from edge_daemon.config import DetectorName
from edge_daemon.detection.base import Detector, Framing
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YuNetDetector

__all__ = ["Detector", "Framing", "create_detector"]

logger = logging.getLogger(__name__)


def create_detector(
    name: DetectorName,
    model: Path | None,
    fetched_yunet: Path,
    min_score: float,
    min_size: int,
) -> Detector:
    """Build a detector.

    Args:
        name: which one; `auto` is YuNet where its file is there, else Haar, and says so in the log.
        model: the user's own model file: ONNX for YuNet, a cascade for Haar.
        fetched_yunet: where `edge-daemon models fetch yunet` puts its file.
        min_score: the least score of a new face, 0 to 1 (YuNet).
        min_size: side of the smallest face to look for, in pixels (Haar).

    Raises:
        DetectorError: the model file is not there or cannot be read.
    """
    if name == "auto":
        name = _choose(model, fetched_yunet)
    if name == "yunet":
        return YuNetDetector(model or fetched_yunet, min_score)
    return HaarDetector(min_size, model)


def _choose(model: Path | None, fetched_yunet: Path) -> DetectorName:
    if model is not None:
        return "haar" if model.suffix == ".xml" else "yunet"
    if fetched_yunet.is_file():
        logger.info("detector chosen", extra={"detector": "yunet", "model": str(fetched_yunet)})
        return "yunet"
    logger.info(
        "detector chosen; 'edge-daemon models fetch yunet' brings a better one",
        extra={"detector": "haar"},
    )
    return "haar"
