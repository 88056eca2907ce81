from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from detector.material import crops

from edge_daemon.detection.alignment import crop_square
from edge_daemon.records import Box, Detection, Image
from emotion_trainer.detector import backgrounds
from emotion_trainer.detector.framing import CROP_SCALE, measure_framing
from emotion_trainer.errors import ExportError


def find_bright(images: Sequence[Image]) -> list[list[Detection]]:
    """The oval of the synthetic faces, and a box far from it."""
    found = []
    for image in images:
        box = cv2.boundingRect(np.asarray(image > 200, np.uint8))
        found.append([Detection(Box(*map(float, box)), 0.9), Detection(Box(-90, 0, 9, 9), 0.9)])
    return found


@pytest.fixture(autouse=True)
def _dark_backgrounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backgrounds, "pattern", lambda side, _rng: np.zeros((side, side), np.uint8))


def test_crop_is_around_the_same_centre_and_slightly_smaller() -> None:
    framing = measure_framing(find_bright, crops())
    oval = Detection(Box(6, 2, 36, 44), 0.9)  # in 48 pixels
    crop = crop_square(oval, framing)
    assert (crop.x, crop.y) == pytest.approx((24, 24), abs=1)
    assert crop.side == pytest.approx(CROP_SCALE * 48, abs=1)


def test_framing_without_detections_is_an_error() -> None:
    with pytest.raises(ExportError, match="0 of"):
        measure_framing(lambda images: [[] for _ in images], crops())
