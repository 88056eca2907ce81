import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_csv, write_sheets

from emotion_trainer.data import Dataset, open_dataset
from emotion_trainer.data.sheets import COLUMNS
from emotion_trainer.errors import DataError

VOTES = "5,5,0,0,0,0,0,0,0,0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("sheets")
    write_sheets(dataset, folder)
    return folder


@pytest.fixture
def table(tmp_path: Path, folder: Path) -> Path:
    """An empty table in a folder with valid sheets."""
    for sheet in folder.glob("*.png"):
        (tmp_path / sheet.name).symlink_to(sheet)
    return tmp_path / "labels.csv"


def good_rows() -> list[str]:
    """99 rows with all emotions in both splits."""
    sheets = ["publictest_00.png"] * 7 + ["training_00.png"] * 92
    return [f"{sheet},1,{index % 7},{VOTES}" for index, sheet in enumerate(sheets)]


def write_table(path: Path, *rows: str) -> None:
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")


def test_open_sheets_reads_all_faces(folder: Path, dataset: Dataset) -> None:
    read = open_dataset(folder)
    for found, written in (
        (read.training, dataset.training),
        (read.validation, dataset.validation),
    ):
        np.testing.assert_array_equal(found.images, written.images)
        np.testing.assert_array_equal(found.labels, written.labels)
        np.testing.assert_array_equal(found.votes, written.votes)
    assert read.fingerprint == dataset.fingerprint


def test_fingerprint_differs_between_data_sets(tmp_path: Path, dataset: Dataset) -> None:
    write_csv(dataset, tmp_path / "fer2013.csv")  # which has no votes
    assert open_dataset(tmp_path).fingerprint != dataset.fingerprint


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"training_00.png,0,9,{VOTES}", "emotion 9 "),
        (f"training_00.png,2304,0,{VOTES}", "cell 2304 "),
        (f"training_00.png,one,0,{VOTES}", "cell is 'one'"),
        (f"training_00.png,0,0,{VOTES[:-1]}99", ".*votes"),
        (f"training_00.png,0,0,{VOTES[:-1]}x", "nf is 'x'"),
        (f"other_00.png,0,0,{VOTES}", "sheet 'other_00.png'"),
        ("training_00.png,0", ".* 2 cells"),
    ],
)
def test_open_sheets_bad_row_is_named(table: Path, row: str, problem: str) -> None:
    write_table(table, *good_rows(), row)
    (fault,) = open_dataset(table.parent).unreadable.faults
    assert re.match(f"row 101: {problem}", fault)
    write_table(table, row)
    with pytest.raises(DataError, match=f": 1 of 1 .*: row 2: {problem}"):
        open_dataset(table.parent)


def test_open_sheets_missing_sheet_is_named(table: Path) -> None:
    write_table(table, *good_rows(), f"training_07.png,0,0,{VOTES}")
    with pytest.raises(DataError, match=r"training_07\.png: .*row 101 of labels\.csv"):
        open_dataset(table.parent)


def test_open_sheets_missing_split_is_named(table: Path) -> None:
    write_table(table, f"training_00.png,0,0,{VOTES}")
    with pytest.raises(DataError, match="PublicTest"):
        open_dataset(table.parent)


def test_open_sheets_missing_column_is_named(table: Path) -> None:
    table.write_text("sheet,cell\n")
    with pytest.raises(DataError, match=r"labels\.csv: .*emotion, neutral"):
        open_dataset(table.parent)


def test_open_sheets_truncated_sheet_is_refused(table: Path, tmp_path: Path, folder: Path) -> None:
    broken = tmp_path / "training_01.png"
    broken.write_bytes((folder / "training_00.png").read_bytes()[:40])
    write_table(table, f"training_01.png,0,0,{VOTES}")
    with pytest.raises(DataError, match=r"training_01\.png: "):
        open_dataset(tmp_path)


def test_open_sheets_sheet_of_another_size_is_refused(table: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "training_01.png"), np.zeros((48, 96), np.uint8))
    write_table(table, f"training_01.png,0,0,{VOTES}")
    with pytest.raises(DataError, match=r"training_01\.png: .*96x48 pixels"):
        open_dataset(tmp_path)


def test_open_dataset_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^--data: .*\(got "):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="absent: "):
        open_dataset(tmp_path / "absent")
