"""Checks of the model bundle, the runtime and the face detector."""

import time
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np

from edge_daemon._lib.files import sha256_of
from edge_daemon._lib.resources import bundled_models
from edge_daemon._lib.tflite import interpreter_type
from edge_daemon.commands.check.finding import Finding
from edge_daemon.config.settings import Settings
from edge_daemon.detection import detector_of
from edge_daemon.detection.download import YUNET
from edge_daemon.errors import DetectorError
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.records import CROP_SIDE

IMAGE_SHAPE: Final = (240, 320, 3)


def check_bundle(settings: Settings) -> Finding:
    """Check the manifest and the checksums of the models."""
    folder = settings.inference.bundle or bundled_models()
    bundle = read_bundle(folder)
    metrics = bundle.ensemble.metrics
    return Finding.ok(
        f"{len(bundle.members)} models, checksums correct, "
        f"{100 * metrics.accuracy:.1f} % on {metrics.split}, {bundle.bundle_id} in {folder}"
    )


def check_runtime(settings: Settings) -> Finding:
    """Check that the models run on this machine."""
    options = settings.inference
    ensemble = EmotionEnsemble.load(options.bundle, options.threads)
    face = np.zeros((1, CROP_SIDE, CROP_SIDE), np.uint8)
    ensemble.predict(face)  # the first run is slower
    began = time.perf_counter()
    ensemble.predict(face)
    milliseconds = 1000 * (time.perf_counter() - began)
    package = interpreter_type().__module__.partition(".")[0].replace("_", "-")
    return Finding.ok(
        f"{package} {metadata.version(package)} takes {milliseconds:.1f} ms a face "
        f"for {len(ensemble)} models"
    )


def check_detector(settings: Settings) -> Finding:
    """Check the detector's file, and that it processes an image."""
    if settings.detection.model is None and settings.detection.detector == "yunet":
        _check_fetched(settings.state_dir / YUNET.file)
    detector = detector_of(settings)
    detector.detect(np.zeros(IMAGE_SHAPE, np.uint8))
    return Finding.ok(detector.name)


def _check_fetched(file: Path) -> None:
    if file.is_file() and sha256_of(file) != YUNET.sha256:
        raise DetectorError(f"{file}: wrong checksum; run 'edge-daemon models fetch yunet'")
