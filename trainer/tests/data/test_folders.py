from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_folders

from edge_daemon.records import EMOTIONS
from emotion_trainer.data import Dataset, Numbering, Split, Splitting, open_dataset
from emotion_trainer.data.folders import NUMBERED, SYNONYMS
from emotion_trainer.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, dataset: Dataset) -> Path:
    folder = tmp_path / "images"
    write_folders(dataset, folder)
    return folder


def by_emotion(split: Split) -> Split:
    """In the order of folders, which is alphabetical."""
    names = [EMOTIONS[label] for label in split.labels]
    order = np.argsort(names, kind="stable")
    return Split(split.images[order], split.labels[order], split.votes[order])


def test_open_folders_reads_all_faces(folder: Path, dataset: Dataset) -> None:
    read = open_dataset(folder)
    for found, written in (
        (read.training, by_emotion(dataset.training)),
        (read.validation, by_emotion(dataset.validation)),
    ):
        np.testing.assert_array_equal(found.images, written.images)
        np.testing.assert_array_equal(found.labels, written.labels)
        assert not found.votes.any()
    assert read.validation_name == "test"
    assert read.training.places[0] == "train/angry/0000.png"


def test_letters_of_folders_may_be_large(folder: Path) -> None:
    labels = open_dataset(folder).training.labels
    (folder / "train" / "happy").rename(folder / "train" / "HAPPY")
    (folder / "train" / "sad").rename(folder / "train" / "Sad")
    (folder / "train").rename(folder / "Train")
    assert sorted(open_dataset(folder).training.labels) == sorted(labels)


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_validates_on_another_name_and_leaves_test_unseen(
    folder: Path, tmp_path: Path, dataset: Dataset, name: str
) -> None:
    write_folders(dataset, tmp_path / "more")
    (tmp_path / "more" / "test").rename(folder / name)
    for path in (folder / "test").rglob("*.png"):
        path.write_text("never read")
    read = open_dataset(folder)
    assert read.validation_name == name
    assert len(read.validation) == len(dataset.validation)
    assert not read.unreadable.faults


@pytest.mark.parametrize("top", [".", "train"])
def test_open_folders_without_validation_part_is_stratified(
    folder: Path, dataset: Dataset, top: str
) -> None:
    (folder / "test").rename(folder.parent / "elsewhere")
    read = open_dataset(folder / top)
    assert len(read.training) + len(read.validation) == len(dataset.training)
    assert np.bincount(read.validation.labels).tolist() == [13] * 6 + [12]
    assert read.validation_name == "20 % of Training"


def test_open_folders_stratified_does_not_read_the_test_part(folder: Path) -> None:
    stratified = open_dataset(folder, Splitting.STRATIFIED)
    (folder / "test").rename(folder.parent / "elsewhere")
    assert open_dataset(folder).fingerprint == stratified.fingerprint


def test_other_sizes_and_colours_become_grey_crops(folder: Path) -> None:
    # Three quarters dark: each pixel of the crop is the mean of the four that it covers.
    large = np.zeros((96, 96, 3), np.uint8)
    large[::2, ::2] = 200
    cv2.imwrite(str(folder / "train" / "angry" / "0000.png"), large)
    face = open_dataset(folder).training.images[0]
    assert face.shape == (48, 48)
    assert set(face.ravel()) == {50}


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_open_folders_bad_image_is_named_and_skipped(
    folder: Path, dataset: Dataset, content: bytes
) -> None:
    (folder / "train" / "fear" / "bad.jpg").write_bytes(content)
    read = open_dataset(folder)
    (fault,) = read.unreadable.faults
    assert fault.startswith("train/fear/bad.jpg: ")
    assert len(read.training) == len(dataset.training)


def test_open_folders_too_many_bad_images_are_refused(folder: Path) -> None:
    for index in range(6):
        (folder / "train" / "fear" / f"{index:04}.bad").touch()
    with pytest.raises(DataError, match=r": 6 of 594 .*: train/fear/0000\.bad: "):
        open_dataset(folder)


def test_hidden_files_and_folders_are_passed_over(folder: Path) -> None:
    (folder / "train" / ".cache").mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "train" / "fear" / name).touch()
    assert not open_dataset(folder).unreadable.faults


def test_open_folders_missing_and_unknown_ones_are_named(folder: Path) -> None:
    (folder / "test" / "disgust").rename(folder / "test" / "Contempt")
    with pytest.raises(DataError, match=r"test: .*disgust.*Contempt"):
        open_dataset(folder)


def test_folders_with_synonyms_have_the_same_labels(folder: Path) -> None:
    labels = open_dataset(folder).training.labels
    for word, emotion in SYNONYMS.items():
        (folder / "train" / emotion).rename(folder / "train" / word)
    assert sorted(open_dataset(folder).training.labels) == sorted(labels)


def test_folders_with_two_words_for_an_emotion_are_refused(folder: Path) -> None:
    (folder / "train" / "anger").mkdir()
    with pytest.raises(DataError, match=r"train: .*\bangry\b"):
        open_dataset(folder)


@pytest.mark.parametrize("numbering", Numbering)
def test_numbered_folders_need_a_numbering(folder: Path, numbering: Numbering) -> None:
    labels = open_dataset(folder).training.labels
    for part in ("train", "test"):
        for number, emotion in NUMBERED[numbering].items():
            (folder / part / emotion).rename(folder / part / number)
    assert sorted(open_dataset(folder, numbering=numbering).training.labels) == sorted(labels)
    with pytest.raises(DataError, match="--numbering"):
        open_dataset(folder)


def test_open_folders_empty_one_is_named(folder: Path) -> None:
    for path in (folder / "train" / "sad").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"train/sad: "):
        open_dataset(folder)
