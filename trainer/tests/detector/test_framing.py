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


def test_framing_is_the_median_box_in_slightly_smaller_crops() -> None:
    framing = measure_framing(find_bright, crops())
    # The oval is (6, 2, 36, 44) in 48 pixels, and each crop has the centre of these.
    side = CROP_SCALE * 48
    x, y = 6 - (48 - side) / 2, 2 - (48 - side) / 2
    truth = {"x": x / side, "y": y / side, "width": 36 / side, "height": 44 / side}
    assert framing.model_dump() == pytest.approx(truth, abs=0.02)
    crop = crop_square(Detection(Box(6, 2, 36, 44), 0.9), framing)
    assert (crop.x, crop.y) == pytest.approx((24, 24), abs=1)
    assert crop.side == pytest.approx(CROP_SCALE * 48, abs=1)


def test_framing_without_detections_is_an_error() -> None:
    with pytest.raises(ExportError, match="0 of"):
        measure_framing(lambda images: [[] for _ in images], crops())
