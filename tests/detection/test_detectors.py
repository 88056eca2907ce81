import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import draw_scene
from special_files import UNREADABLE, UNREADABLE_IDS

from edge_daemon._lib.files import bundled_detector
from edge_daemon.config.settings import DetectorName
from edge_daemon.detection import Detector, create_detector
from edge_daemon.detection.base import TRACKED_MARGIN
from edge_daemon.detection.bundled import BundledDetector
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YuNetDetector
from edge_daemon.errors import DetectorError

CASCADE = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
FACES = [(40, 60, 120), (330, 200, 200)]
SCENE = draw_scene(*FACES, size=(640, 480))


def create(
    name: DetectorName, model: Path | None = None, fetched: Path = Path("absent.onnx")
) -> Detector:
    return create_detector(name, model, fetched, min_score=0.7, min_size=24)


def assert_finds_the_faces(detector: Detector) -> None:
    found = sorted(detector.detect(SCENE), key=lambda detection: detection.box.x)
    assert len(found) == len(FACES)
    for detection, (x, y, side) in zip(found, FACES, strict=True):
        centre = detection.box.centre
        assert centre == pytest.approx((x + side / 2, y + side / 2), abs=0.15 * side)
        assert 0.5 * side < detection.box.width < 1.2 * side
        assert 0 < detection.score <= 1


def test_haar_detector_finds_faces() -> None:
    assert_finds_the_faces(create("haar"))


def test_haar_detector_with_own_cascade_finds_faces() -> None:
    assert CASCADE.is_file()
    assert_finds_the_faces(create("haar", CASCADE))


def test_haar_detector_skips_faces_below_min_size() -> None:
    sides = [detection.box.width for detection in HaarDetector(150).detect(SCENE)]
    assert len(sides) == 1
    assert sides[0] > 150


def test_yunet_detector_finds_faces_with_landmarks(yunet_model: Path) -> None:
    assert_finds_faces_and_landmarks(create("yunet", yunet_model))


def test_bundled_detector_finds_faces_with_landmarks() -> None:
    assert_finds_faces_and_landmarks(create("bundled"))


def assert_finds_faces_and_landmarks(detector: Detector) -> None:
    assert_finds_the_faces(detector)
    for detection in detector.detect(SCENE):
        assert detection.landmarks is not None
        assert (detection.landmarks.shape, detection.landmarks.dtype) == ((5, 2), np.float32)
        right_eye, left_eye, nose, right_mouth, left_mouth = detection.landmarks
        assert right_eye[0] < nose[0] < left_eye[0]
        assert right_mouth[0] < left_mouth[0]
        assert right_eye[1] < nose[1] < right_mouth[1]


def test_yunet_detector_accepts_changing_sizes(yunet_model: Path) -> None:
    assert_accepts_changing_sizes(create("yunet", yunet_model))


def test_bundled_detector_accepts_changing_sizes() -> None:
    assert_accepts_changing_sizes(create("bundled"))


def assert_accepts_changing_sizes(detector: Detector) -> None:
    small = draw_scene((20, 20, 120), size=(161, 163))
    for picture, faces in ((SCENE, 2), (small, 1), (SCENE, 2)):
        assert len(detector.detect(picture)) == faces


def test_yunet_detector_skips_scores_below_the_tracked_margin(yunet_model: Path) -> None:
    detector = YuNetDetector(yunet_model, 0.7)
    assert detector.start_score == 0.7
    weaker, stronger = sorted(detection.score for detection in detector.detect(SCENE))
    strict = YuNetDetector(yunet_model, (weaker + stronger) / 2 + TRACKED_MARGIN)
    assert [detection.score for detection in strict.detect(SCENE)] == [stronger]


@pytest.mark.parametrize("value", [0, 120, 255])
def test_detectors_find_nothing_in_blank_pictures(yunet_model: Path, value: int) -> None:
    blank = np.full((240, 320, 3), value, np.uint8)
    assert create("haar").detect(blank) == []
    assert create("bundled").detect(blank) == []
    assert create("yunet", yunet_model).detect(blank) == []


@pytest.mark.parametrize("name", ["bundled", "haar", "yunet"])
@pytest.mark.parametrize("content", [b"no model", b"", b"<xml/>", bytes(10_000)])
def test_detector_with_an_invalid_file_is_an_error(
    tmp_path: Path, name: DetectorName, content: bytes
) -> None:
    model = tmp_path / "detector.bin"
    model.write_bytes(content)
    with pytest.raises(DetectorError, match=r"detector\.bin"):
        create(name, model)


@pytest.mark.parametrize("name", ["bundled", "haar", "yunet"])
def test_detector_with_a_missing_file_is_an_error(tmp_path: Path, name: DetectorName) -> None:
    with pytest.raises(DetectorError, match=r"absent\.bin"):
        create(name, tmp_path / "absent.bin")


@pytest.mark.parametrize("name", ["bundled", "haar", "yunet"])
@pytest.mark.parametrize("make", UNREADABLE, ids=UNREADABLE_IDS)
def test_detector_with_special_file_is_refused(
    tmp_path: Path, name: DetectorName, make: Callable[[Path], None]
) -> None:
    model = tmp_path / "detector.bin"
    make(model)
    with pytest.raises(DetectorError) as refused:
        create(name, model)
    assert str(refused.value).startswith(f"{model}: cannot be read: ")


@pytest.mark.parametrize("name", ["auto", "bundled", "haar", "yunet"])
def test_detector_with_absent_model_names_the_setting(tmp_path: Path, name: DetectorName) -> None:
    model = tmp_path / "absent.onnx"
    with pytest.raises(DetectorError) as refused:
        create(name, model)
    assert str(refused.value).startswith(f"detection.model: no such file (got {model}); ")
    assert "models fetch" not in str(refused.value)


def test_yunet_detector_without_its_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="edge-daemon models fetch yunet"):
        create("yunet", fetched=tmp_path / "absent.onnx")


def test_yunet_detector_uses_the_fetched_file(yunet_model: Path) -> None:
    assert isinstance(create("yunet", fetched=yunet_model), YuNetDetector)


def chosen(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    return vars(record)


def test_auto_detector_is_bundled_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert isinstance(create("auto"), BundledDetector)
    assert chosen(caplog)["detector"] == "bundled"


def test_auto_detector_follows_the_kind_of_the_file(yunet_model: Path) -> None:
    assert isinstance(create("auto", CASCADE, fetched=yunet_model), HaarDetector)
    assert isinstance(create("auto", yunet_model), YuNetDetector)
    assert isinstance(create("auto", bundled_detector()), BundledDetector)
