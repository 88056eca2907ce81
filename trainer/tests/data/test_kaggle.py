from pathlib import Path

import numpy as np
import pytest
from conftest import write_csv

from emotion_trainer.data import Dataset, open_dataset
from emotion_trainer.errors import DataError

PIXELS = " ".join(["7"] * 2304)
TRAINING = f"3,{PIXELS},Training"
VALIDATION = f"4,{PIXELS},PublicTest"


def test_reads_back_what_was_written(tmp_path: Path, dataset: Dataset) -> None:
    write_csv(dataset, tmp_path / "fer2013.csv")
    read = open_dataset(tmp_path / "fer2013.csv")
    np.testing.assert_array_equal(read.training.images, dataset.training.images)
    np.testing.assert_array_equal(read.validation.labels, dataset.validation.labels)
    assert not read.training.votes.any()


def test_finds_the_file_in_its_folder(tmp_path: Path, dataset: Dataset) -> None:
    write_csv(dataset, tmp_path / "fer2013.csv")
    assert len(open_dataset(tmp_path).training) == len(dataset.training)


def test_takes_other_column_orders_and_spaces_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "icml_face_data.csv"
    path.write_text(f"emotion, Usage, pixels\n3,Training,{PIXELS}\n4,PublicTest,{PIXELS}\n")
    read = open_dataset(path)
    assert read.training.labels.tolist() == [3]
    assert read.validation.labels.tolist() == [4]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([TRAINING, f"7,{PIXELS},Training"], "row 3: emotion 7 is out of range, 0 to 6"),
        ([TRAINING, f"-1,{PIXELS},Training"], "row 3: emotion -1 is out of range"),
        ([TRAINING, f"sad,{PIXELS},Training"], "row 3: emotion is 'sad', not a whole number"),
        ([f"3,{PIXELS} 9,Training"], "row 2: has 2305 pixels, not 2304"),
        ([TRAINING, "4,7 7 7,PublicTest"], "row 3: has 3 pixels, not 2304; .* truncated"),
        ([f"3,{PIXELS[:-1]}256,Training"], "row 2: has pixels that are no whole numbers"),
        ([f"3,{PIXELS[:-1]}x,Training"], "row 2: has pixels that are no whole numbers"),
        ([TRAINING, VALIDATION, f"4,{PIXELS[:100]}"], "row 4: has 2 cells, the header 3; .* trunc"),
        ([f"3,{PIXELS},Test"], "row 2: Usage is 'Test'"),
        ([TRAINING], "has no row of the split PublicTest"),
        ([], "has no row of the split Training"),
    ],
)
def test_names_the_bad_row(tmp_path: Path, rows: list[str], complaint: str) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    with pytest.raises(DataError, match=complaint):
        open_dataset(path)


def test_names_the_missing_column(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text(f"emotion,pixels\n3,{PIXELS}\n")
    with pytest.raises(DataError, match="has no column Usage"):
        open_dataset(path)


def test_refuses_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset(path)
