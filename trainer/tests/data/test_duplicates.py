import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.duplicates import find_duplicates, near_copies, write_duplicates


def split_of(greys: str, labels: list[int], place: str) -> Split:
    """A plain image for each letter, the same for the same letter."""
    return Split(
        images=np.stack([np.full((48, 48), ord(grey), np.uint8) for grey in greys]),
        labels=np.array(labels, np.int64),
        votes=np.zeros((len(labels), 10), np.uint8),
        places=tuple(f"{place} {index}" for index in range(len(labels))),
    )


@pytest.fixture
def doubled() -> Dataset:
    return Dataset(
        training=split_of("aabbbc", [0, 0, 1, 1, 2, 3], "row"),
        validation=split_of("addbc", [0, 4, 5, 1, 2], "cell"),
    )


def test_find_duplicates_within_and_across_splits(doubled: Dataset) -> None:
    found = find_duplicates(doubled)
    assert found.in_training.faces.tolist() == [True] * 5 + [False]
    assert found.in_validation.faces.tolist() == [False, True, True, False, False]
    assert found.across.faces.tolist() == [True, False, False, True, True]


def test_find_duplicates_with_contradicting_labels(doubled: Dataset) -> None:
    found = find_duplicates(doubled)
    assert found.in_training.contradicted.tolist() == [False, False, True, True, True, False]
    assert found.in_validation.contradicted.tolist() == [False, True, True, False, False]
    assert found.across.contradicted.tolist() == [False, False, False, True, True]


def test_find_duplicates_compares_each_pixel(doubled: Dataset) -> None:
    images = doubled.training.images.copy()
    images[0, 47, 47] += 1
    altered = replace(doubled, training=replace(doubled.training, images=images))
    assert find_duplicates(altered).in_training.faces.tolist() == [False, False, *[True] * 3, False]


def test_write_duplicates_lists_places_and_labels(doubled: Dataset, tmp_path: Path) -> None:
    write_duplicates(find_duplicates(doubled), doubled, tmp_path / "list.csv")
    with (tmp_path / "list.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row["image"], []).append(f"{row['place']} {row['emotion']}")
    assert list(groups.values()) == [
        ["row 0 angry", "row 1 angry", "cell 0 angry"],
        ["row 2 disgust", "row 3 disgust", "row 4 fear", "cell 3 disgust"],
        ["row 5 happy", "cell 4 fear"],
        ["cell 1 sad", "cell 2 surprise"],
    ]
    assert [row["split"] for row in rows[:3]] == ["Training", "Training", "PublicTest"]


def test_near_copies_finds_other_light_and_ignores_other_faces() -> None:
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 200, (4, 48, 48), dtype=np.uint8)
    photos = np.stack([cv2.GaussianBlur(photo, (0, 0), 2) for photo in photos])
    brighter = photos[0] + 20
    noisy = (photos[1] + rng.normal(0, 1, (48, 48))).astype(np.uint8)
    moved = np.roll(photos[2], 1, axis=1)
    plain = np.full((48, 48), 7, np.uint8)

    def split(images: list[np.ndarray]) -> Split:
        count = len(images)
        return Split(np.stack(images), np.zeros(count, np.int64), np.zeros((count, 10), np.uint8))

    dataset = Dataset(
        training=split([*photos, plain]),
        validation=split([brighter, noisy, moved, plain, plain + 1]),
    )
    assert near_copies(dataset).tolist() == [True, True, False, True, False]
