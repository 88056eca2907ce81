"""The crops that the pipeline cuts are worth what the models were trained on."""

from pathlib import Path

from conftest import material

from benchmarks import public_test
from benchmarks.composition import measure
from edge_daemon import EmotionEnsemble
from edge_daemon._lib.files import bundled_detector
from edge_daemon.detection.bundled import BundledDetector
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YuNetDetector

FACES = 480
"""Enough for a standard error below two points, where a misplaced crop costs five or more."""


def test_bundled_detector_and_crop_cost_at_most_three_points() -> None:
    faces, emotions = public_test.load(material("data/fer2013"))
    detector = BundledDetector(bundled_detector(), min_score=0.7)
    loss = measure(detector, EmotionEnsemble.load(), faces[:FACES], emotions[:FACES])
    assert loss.detected > 0.7 * FACES
    assert loss.points <= 3.0


def test_yunet_and_its_crop_cost_at_most_three_points(yunet_model: Path) -> None:
    faces, emotions = public_test.load(material("data/fer2013"))
    detector = YuNetDetector(yunet_model, min_score=0.7)
    loss = measure(detector, EmotionEnsemble.load(), faces[:FACES], emotions[:FACES])
    assert loss.detected > 0.7 * FACES
    assert loss.points <= 3.0


def test_haar_and_its_crop_cost_at_most_five_points() -> None:
    faces, emotions = public_test.load(material("data/fer2013"))
    few = 2 * FACES // 3  # this detector takes the most time
    loss = measure(HaarDetector(24), EmotionEnsemble.load(), faces[:few], emotions[:few])
    assert loss.detected > 0.4 * few
    assert loss.points <= 5.0
