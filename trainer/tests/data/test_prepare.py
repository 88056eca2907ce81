"""The command, as a user runs it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import subject_of, write_csv, write_folders, write_sheets

from emotion_trainer.cli import main
from emotion_trainer.data import Dataset


@pytest.fixture(scope="module")
def doubled(dataset: Dataset) -> Dataset:
    """A data set whose first two validation faces are also in training, one of them as another."""
    images = dataset.validation.images.copy()
    images[:2] = dataset.training.images[[0, 2]]
    return replace(dataset, validation=replace(dataset.validation, images=images))


def test_prepare_prints_counts_and_lists_duplicates(
    doubled: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sheets(doubled, tmp_path / "sheets")
    listed = tmp_path / "duplicates.csv"
    data = ["--data", str(tmp_path / "sheets"), "--duplicates", str(listed)]
    assert main(["prepare", *data]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| emotion | Training | PublicTest |" in lines
    assert "| happy | 64 | 20 |" in lines
    assert "| all | 448 | 140 |" in lines
    assert "| with FER+ votes | 448 | 140 |" in lines
    assert "| PublicTest, also in Training | 2 | 1 |" in lines
    assert lines[-1].endswith(f" {doubled.fingerprint}")
    assert listed.read_text().splitlines()[0] == "image,split,place,emotion"
    assert listed.read_text().count("PublicTest") == 2


def test_prepare_lists_all_unreadable_rows(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = replace(
        dataset.training,
        images=np.repeat(dataset.training.images, 2, axis=0),
        labels=np.repeat(dataset.training.labels, 2),
    )
    write_csv(replace(dataset, training=training), tmp_path / "fer2013.csv")
    with (tmp_path / "fer2013.csv").open("a") as file:
        file.write("3,7 7 7,Training\n" * 7)
    assert main(["prepare", "--data", str(tmp_path)]) == 0
    output = capsys.readouterr()
    warnings = output.err.splitlines()
    assert warnings[0].startswith(f"{tmp_path}: 7 of 1043 ")
    assert [line.partition(": ")[0] for line in warnings[1:-1]] == [
        f"  row {number}" for number in range(1039, 1044)
    ]
    assert "2" in warnings[-1]  # the rows that are not listed
    listed = [line for line in output.out.splitlines() if line.startswith("- row ")]
    assert len(listed) == 7


def test_prepare_stratified_validates_on_a_fifth(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(dataset, tmp_path)
    assert main(["prepare", "--data", str(tmp_path), "--split", "stratified"]) == 0
    assert "| all | 358 | 90 |" in capsys.readouterr().out


def test_prepare_invalid_folder_prints_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = ["--data", str(tmp_path), "--crop-to", str(tmp_path / "crops")]
    assert main(["prepare", *photos]) == 1
    error = capsys.readouterr().err
    assert subject_of(error) == str(tmp_path)
    assert error.count("\n") == 1


def test_prepare_duplicates_may_have_names_that_are_not_utf8(
    dataset: Dataset, tmp_path: Path
) -> None:
    write_folders(dataset, tmp_path / "faces")
    image = next((tmp_path / "faces" / "train" / "happy").iterdir())
    image.with_name(os.fsdecode(b"m\xfcller.png")).write_bytes(image.read_bytes())
    listed = tmp_path / "duplicates.csv"
    data = ["--data", str(tmp_path / "faces"), "--duplicates", str(listed)]
    assert main(["prepare", *data]) == 0
    assert "train/happy/m\N{REPLACEMENT CHARACTER}ller.png" in listed.read_text(encoding="utf-8")
