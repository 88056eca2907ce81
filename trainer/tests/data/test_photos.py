import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_daemon.analysis import StillFinder
from edge_daemon.config.settings import QualitySettings
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.records import EMOTIONS
from emotion_trainer.data import open_dataset
from emotion_trainer.data.photos import crop_photos
from emotion_trainer.data.stills import still_finder
from emotion_trainer.errors import DataError

Image = NDArray[np.uint8]

MATERIAL = Path(os.environ.get("TEST_MATERIAL", Path(__file__).parents[4] / "shared"))
"""Real photos and a detector's model, which this repository may not carry."""

HAIR, SKIN, EYE = 50, 185, 25

FIND = StillFinder(HaarDetector(24), 640, QualitySettings())
"""Haar finds drawn faces; the daemon's own detector is for real ones."""


def material(path: str) -> Path:
    found = MATERIAL / path
    if not found.exists():
        pytest.skip(f"needs {path} in {MATERIAL} (set TEST_MATERIAL)")
    return found


def draw_photo(*faces: tuple[int, int, int]) -> Image:
    """A grey photo with faces at (x, y, side) that Haar's cascade takes for such."""
    photo = np.full((240, 320), 120, np.uint8)
    for x, y, side in faces:
        for cx, cy, rx, ry, grey in (
            (0.50, 0.28, 0.360, 0.260, HAIR),
            (0.50, 0.52, 0.320, 0.420, SKIN),
            (0.36, 0.44, 0.028, 0.030, EYE),
            (0.64, 0.44, 0.028, 0.030, EYE),
        ):
            centre = (round(x + cx * side), round(y + cy * side))
            axes = (round(rx * side), round(ry * side))
            cv2.ellipse(photo, centre, axes, 0, 0, 360, grey, cv2.FILLED, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), 1.5), np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos of each emotion."""
    folder = tmp_path / "photos"
    for name in EMOTIONS:
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "near.png"), draw_photo((60, 40, 150)))
        cv2.imwrite(str(folder / name / "far.png"), draw_photo((150, 60, 100)))
    return folder


def test_crops_are_a_data_set(photos: Path, tmp_path: Path) -> None:
    cropping = crop_photos(photos, tmp_path / "crops", FIND)
    assert (cropping.crops, cropping.faceless) == (14, ())
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "crops"}
    # Too few to split further; a validation folder fixes that.
    shutil.copytree(tmp_path / "crops", tmp_path / "all" / "train")
    shutil.copytree(tmp_path / "crops", tmp_path / "all" / "val")
    training = open_dataset(tmp_path / "all").training
    assert np.bincount(training.labels).tolist() == [2] * 7
    # Framed as FER2013's faces are: the forehead is light, the eyes dark, at the same height.
    for face in training.images:
        eyes = face[14:26].astype(int).min(axis=0)
        assert 10 < int(eyes[:24].argmin()) < 20
        assert 27 < int(24 + eyes[24:].argmin()) < 38


def test_crop_photos_keeps_the_layout(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "split" / "train")
    shutil.copytree(photos, tmp_path / "split" / "test")
    crop_photos(tmp_path / "split", tmp_path / "crops", FIND)
    assert (tmp_path / "crops" / "test" / "angry" / "near.png.png").is_file()
    assert open_dataset(tmp_path / "crops").validation_name == "test"


def test_crop_photos_crops_the_largest_face(photos: Path, tmp_path: Path) -> None:
    photo = draw_photo((220, 100, 80), (10, 40, 150))
    photo[:, 210:] += 40  # a lighter skin distinguishes the small face from the large one
    cv2.imwrite(str(photos / "happy" / "near.png"), photo)
    crop_photos(photos, tmp_path / "crops", FIND)
    crop = cv2.imread(str(tmp_path / "crops" / "happy" / "near.png.png"), cv2.IMREAD_GRAYSCALE)
    assert crop is not None
    assert abs(int(crop[24, 24]) - SKIN) < 5


def test_crop_photos_names_photos_without_a_face(photos: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(photos / "sad" / "empty.png"), draw_photo())
    cropping = crop_photos(photos, tmp_path / "crops", FIND)
    assert cropping.crops == 14
    (fault,) = cropping.faceless
    assert fault.startswith("sad/empty.png: ")
    assert str(cropping).splitlines()[1:] == [f"- {fault}"]
    assert not (tmp_path / "crops" / "sad" / "empty.png.png").exists()


def test_crop_photos_leaves_out_unscored_faces(photos: Path, tmp_path: Path) -> None:
    blurred = cv2.GaussianBlur(draw_photo((60, 30, 190)), (0, 0), 7.6)
    cv2.imwrite(str(photos / "sad" / "blurred.png"), blurred)
    # Haar finds no face that is blurred enough for the usual limit.
    strict = StillFinder(HaarDetector(24), 640, QualitySettings(min_sharpness=0.02))
    cropping = crop_photos(photos, tmp_path / "crops", strict)
    assert cropping.crops == 14
    (fault,) = cropping.faceless
    assert fault.startswith("sad/blurred.png: ")


def test_crop_photos_unreadable_photos_are_refused(photos: Path, tmp_path: Path) -> None:
    (photos / "sad" / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r": 1 of 15 .*: sad/broken\.jpg: "):
        crop_photos(photos, tmp_path / "crops", FIND)
    assert not (tmp_path / "crops").exists()


def test_crop_photos_without_any_face_are_refused(photos: Path, tmp_path: Path) -> None:
    for path in photos.rglob("*.png"):
        cv2.imwrite(str(path), draw_photo())
    with pytest.raises(DataError, match=f"^{photos}: "):
        crop_photos(photos, tmp_path / "crops", FIND)


def test_crop_photos_into_a_full_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "mine.txt").touch()
    with pytest.raises(DataError, match=f"^{tmp_path / 'crops'}: "):
        crop_photos(photos, tmp_path / "crops", FIND)


@pytest.mark.parametrize(
    ("model", "fewest"), [(None, 20), ("models/face_detection_yunet_2023mar.onnx", 21)]
)
def test_detectors_crop_real_photos(model: str | None, fewest: int, tmp_path: Path) -> None:
    find = still_finder(None if model is None else material(model))
    images = sorted(material("data/faces").glob("plain_*.jpg"))[:21]
    for index, path in enumerate(images):
        folder = tmp_path / "photos" / EMOTIONS[index % 7]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    assert crop_photos(tmp_path / "photos", tmp_path / "crops", find).crops >= fewest
