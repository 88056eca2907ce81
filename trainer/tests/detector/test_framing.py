from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from detector.material import crops

from edge_daemon.records import Box, Detection, Image
from emotion_trainer.detector import backgrounds
from emotion_trainer.detector.framing import measure_framing
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


def test_framing_is_the_median_box_in_the_crops() -> None:
    found = measure_framing(find_bright, crops()).model_dump()
    # The oval is (6, 2, 36, 44) in 48 pixels.
    truth = {"x": 6 / 48, "y": 2 / 48, "width": 36 / 48, "height": 44 / 48}
    assert found == pytest.approx(truth, abs=0.02)


def test_framing_without_detections_is_an_error() -> None:
    with pytest.raises(ExportError, match="0 of"):
        measure_framing(lambda images: [[] for _ in images], crops())
