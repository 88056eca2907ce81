from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_scene

from edge_daemon import EmotionEnsemble
from edge_daemon.analysis import StillFinder
from edge_daemon.config.settings import QualitySettings
from edge_daemon.detection import Framing
from edge_daemon.detection.alignment import crop_square, extract_crop
from edge_daemon.records import Box, Detection, Image, Unscored
from emotion_trainer.annotation import FaceReader, annotate

SCENE = draw_scene((60, 60, 120), (200, 100, 100))


class Fixed:
    """A detector that finds the same faces in any image."""

    name = "fixed"
    framing = Framing(x=0.0, y=0.0, width=1.0, height=1.0)
    start_score = 0.7

    def __init__(self, *found: tuple[Box, float]) -> None:
        self._found = [Detection(box, score) for box, score in found]

    def detect(self, bgr: Image) -> list[Detection]:
        assert bgr.dtype == np.uint8
        return self._found


def finder(detector: Fixed) -> StillFinder:
    return StillFinder(detector, max_side=640, quality=QualitySettings())


@pytest.fixture(scope="module")
def ensemble() -> EmotionEnsemble:
    return EmotionEnsemble.load()


def test_reader_returns_the_daemons_crops_left_to_right(ensemble: EmotionEnsemble) -> None:
    boxes = [Box(200, 100, 100, 100), Box(60, 60, 120, 120)]
    detector = Fixed(*((box, 0.9) for box in boxes))
    readings = FaceReader(finder(detector), ensemble).read(SCENE)
    assert [reading.face.detection.box for reading in readings] == boxes[::-1]
    grey = SCENE[:, :, 0]
    crops = [extract_crop(grey, crop_square(r.face.detection, detector.framing)) for r in readings]
    expected = ensemble.predict(np.stack(crops))
    np.testing.assert_allclose([r.probabilities for r in readings], expected, atol=1e-5)
    assert readings[0].confidence == readings[0].probabilities.max()


def test_reader_below_the_start_score_returns_no_face(ensemble: EmotionEnsemble) -> None:
    detector = Fixed((Box(60, 60, 120, 120), 0.69), (Box(200, 100, 100, 100), 0.7))
    (reading,) = FaceReader(finder(detector), ensemble).read(SCENE)
    assert reading.face.detection.box.x == 200


def test_reader_of_an_unscored_face_returns_the_reason(
    ensemble: EmotionEnsemble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = FaceReader(finder(Fixed((Box(60, 60, 15, 15), 0.9))), ensemble)
    (reading,) = reader.read(SCENE)
    assert reading.face.unscored is Unscored.TOO_SMALL
    cv2.imwrite(str(tmp_path / "a.png"), SCENE)
    annotate([tmp_path / "a.png"], tmp_path / "out", reader)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split("\t")[1:] == [
        "60 60 15 15",
        reading.emotion,
        f"{reading.confidence:.4f}",
        "too_small",
    ]
