import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from detector.material import landmarks_in, write_photos

from edge_daemon.detection import Framing
from edge_daemon.records import Box, Detection, Image
from emotion_trainer.detector.compare import compare, table
from emotion_trainer.detector.misses import write_misses
from emotion_trainer.detector.photos import part_of
from emotion_trainer.detector.samples import load_samples
from emotion_trainer.errors import DataError


class Bright:
    """Finds the brightest oval, and reports a fixed box in addition."""

    name = "bright"
    framing = Framing(x=0, y=0, width=1, height=1)
    start_score = 0.5

    def __init__(self, *extra: tuple[float, float, float, float], score: float = 0.9) -> None:
        self._extra = extra
        self._score = score

    def detect(self, bgr: Image) -> list[Detection]:
        box = tuple(map(float, cv2.boundingRect(np.asarray(bgr[..., 0] > 200, np.uint8))))
        found = [Detection(Box(*box), self._score, landmarks_in(box))]
        return found + [Detection(Box(*box), 0.8, landmarks_in(box)) for box in self._extra]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos")
    return tmp_path / "photos"


def test_compare_of_a_perfect_detector_has_full_recall(folder: Path) -> None:
    samples = list(load_samples(folder, Bright(), 0.5, test_only=False, interval=1))
    (result,) = compare(samples, {"bright": Bright()}, 640).values()
    assert len(samples) == 60
    assert result.recall(0, np.inf) == (60, 60)
    assert result.false_positives == 0
    assert result.mean_iou is not None
    assert result.mean_iou > 0.9
    assert result.landmark_error is not None
    assert result.landmark_error < 0.05


@pytest.mark.parametrize("is_labelled", [False, True])
def test_samples_of_a_folder_without_any_are_an_error(tmp_path: Path, *, is_labelled: bool) -> None:
    if is_labelled:
        photos = [{"file": f"{number}.png", "faces": []} for number in range(60)]
        training = [photo for photo in photos if part_of(str(photo["file"])) != "test"]
        (tmp_path / "labels.json").write_text(json.dumps(training))
    with pytest.raises(DataError, match=f"^{tmp_path}: "):
        load_samples(tmp_path, Bright(), 0.5, test_only=True, interval=1)


def test_compare_counts_false_positives_but_not_ignored_boxes(folder: Path) -> None:
    samples = list(load_samples(folder, Bright(), 0.5, test_only=False, interval=1))
    ignored, wrong = (220.0, 160.0, 15.0, 18.0), (0.0, 0.0, 12.0, 12.0)
    results = compare(samples, {"a": Bright(ignored), "b": Bright(wrong)}, 640)
    assert results["a"].false_positives == 0
    assert results["b"].false_positives == 60


def test_compare_below_the_start_score_finds_nothing(folder: Path) -> None:
    samples = list(load_samples(folder, Bright(), 0.5, test_only=False, interval=1))
    (result,) = compare(samples, {"weak": Bright(score=0.4)}, 640).values()
    assert result.recall(0, np.inf) == (0, 60)


def test_compare_has_no_landmark_error_without_landmarks(folder: Path) -> None:
    class WithoutLandmarks(Bright):
        def detect(self, bgr: Image) -> list[Detection]:
            return [replace(detection, landmarks=None) for detection in super().detect(bgr)]

    samples = list(load_samples(folder, Bright(), 0.5, test_only=False, interval=1))
    (result,) = compare(samples, {"boxes": WithoutLandmarks()}, 640).values()
    assert result.mean_iou is not None
    assert result.landmark_error is None


def test_compare_in_reduced_images_measures_original_widths(folder: Path) -> None:
    samples = list(load_samples(folder, Bright(), 0.5, test_only=False, interval=1))
    (result,) = compare(samples, {"bright": Bright()}, 120).values()
    found, faces = result.recall(24, np.inf)
    assert faces == 60
    assert found > 50


def test_samples_of_the_test_part_are_those_held_out(folder: Path) -> None:
    names = [s.name for s in load_samples(folder, Bright(), 0.5, test_only=True, interval=1)]
    assert names
    assert all(part_of(name) == "test" for name in names)


def test_samples_without_labels_are_labelled_by_the_teacher(folder: Path) -> None:
    (folder / "labels.json").unlink()
    clip = cv2.VideoWriter(
        str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (240, 180)
    )
    for _ in range(6):
        clip.write(cv2.imread(str(folder / "photo_000.png")))
    clip.release()
    samples = list(load_samples(folder, Bright(), 0.5, test_only=True, interval=2))
    assert len(samples) == 60 + 3
    assert all(sample.faces.doubtful.tolist() == [False] for sample in samples)
    samples = load_samples(folder, Bright(score=0.3), 0.5, test_only=True, interval=2)
    assert all(sample.faces.doubtful.tolist() == [True] for sample in samples)


def test_samples_of_an_unreadable_photo_are_an_error(folder: Path) -> None:
    (folder / "photo_000.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"photo_000\.png"):
        list(load_samples(folder, Bright(), 0.5, test_only=False, interval=1))


def test_table_has_a_row_per_width_and_a_column_per_detector(folder: Path) -> None:
    samples = list(load_samples(folder, Bright(), 0.5, test_only=False, interval=1))
    lines = table(compare(samples, {"a": Bright(), "b": Bright()}, 640)).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[2:-1]] == ["faces", "a", "b"]
    labels = " ".join(lines)
    for words in ("12 to 16 px", "from 48 px", "from 16 px", "false positives", "landmark error"):
        assert words in labels


def test_misses_are_written_worst_first(folder: Path, tmp_path: Path) -> None:
    labels = json.loads((folder / "labels.json").read_text())
    labels[7]["faces"].append({"box": [2, 2, 20, 20]})
    (folder / "labels.json").write_text(json.dumps(labels))
    samples = list(load_samples(folder, Bright(), 0.5, test_only=False, interval=1))
    (result,) = compare(samples, {"bright": Bright()}, 640).values()
    (path,) = write_misses(samples, result, tmp_path / "misses", 5)
    assert path.stem.endswith("photo_007")
    assert cv2.imread(str(path)).shape == (180, 240, 3)
