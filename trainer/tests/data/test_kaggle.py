import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import write_csv

from emotion_trainer.data import Dataset, Splitting, open_dataset
from emotion_trainer.errors import DataError

PIXELS = " ".join(["7"] * 2304)
EMOTIONS = range(7)
TRAINING = [f"{code},{PIXELS},Training" for code in EMOTIONS]
VALIDATION = [f"{code},{PIXELS},PublicTest" for code in EMOTIONS]


def test_open_csv_reads_all_faces(tmp_path: Path, dataset: Dataset) -> None:
    write_csv(dataset, tmp_path / "fer2013.csv")
    read = open_dataset(tmp_path / "fer2013.csv")
    np.testing.assert_array_equal(read.training.images, dataset.training.images)
    np.testing.assert_array_equal(read.validation.labels, dataset.validation.labels)
    assert not read.training.votes.any()


def test_table_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    rows = ["emotion,pixels,Usage", *TRAINING, *VALIDATION]
    path.write_text("\n".join(rows), encoding="utf-8-sig")
    assert open_dataset(path).training.labels.tolist() == [*EMOTIONS]


def test_open_csv_is_found_in_its_folder(tmp_path: Path, dataset: Dataset) -> None:
    write_csv(dataset, tmp_path / "fer2013.csv")
    assert len(open_dataset(tmp_path).training) == len(dataset.training)


def test_open_csv_accepts_other_orders_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "icml_face_data.csv"
    usages = ("Training", "PublicTest")
    rows = [f"{code},{usage},{PIXELS}" for usage in usages for code in EMOTIONS]
    path.write_text("\n".join(["emotion, Usage, pixels", *rows]))
    read = open_dataset(path)
    assert read.training.labels.tolist() == [*EMOTIONS]
    assert read.validation.labels.tolist() == [*EMOTIONS]


BAD_ROWS = [
    (f"7,{PIXELS},Training", "emotion 7 "),
    (f"-1,{PIXELS},Training", "emotion -1 "),
    (f"sad,{PIXELS},Training", "emotion is 'sad'"),
    (f"3,{PIXELS} 9,Training", "has 2305 pixels"),
    ("4,7 7 7,PublicTest", "has 3 pixels"),
    (f"3,{PIXELS[:-1]}256,Training", "pixels "),
    (f"3,{PIXELS[:-1]}x,Training", "pixels "),
    (f"4,{PIXELS[:100]}", "has 2 cells"),
    (f"3,{PIXELS},Test", "Usage is 'Test'"),
]


def write_rows(path: Path, *rows: str) -> None:
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]))


@pytest.mark.parametrize(("row", "complaint"), BAD_ROWS)
def test_open_csv_bad_row_is_named_and_skipped(tmp_path: Path, row: str, complaint: str) -> None:
    path = tmp_path / "fer2013.csv"
    write_rows(path, *VALIDATION, *TRAINING * 13, TRAINING[0], row)
    read = open_dataset(path)
    assert len(read.training) == 92
    assert read.unreadable.total == 100
    (fault,) = read.unreadable.faults
    assert fault.startswith(f"row 101: {complaint}")


@pytest.mark.parametrize(("row", "complaint"), BAD_ROWS)
def test_open_csv_too_many_bad_rows_are_refused(tmp_path: Path, row: str, complaint: str) -> None:
    path = tmp_path / "fer2013.csv"
    write_rows(path, *VALIDATION, *TRAINING * 13, row)
    with pytest.raises(DataError) as refusal:
        open_dataset(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: 1 of 99 ")
    assert ": row 100: " in message
    assert complaint in message


@pytest.mark.parametrize(("rows", "split"), [(TRAINING, "PublicTest"), ([], "Training")])
def test_open_csv_missing_split_is_named(tmp_path: Path, rows: list[str], split: str) -> None:
    path = tmp_path / "fer2013.csv"
    write_rows(path, *rows)
    with pytest.raises(DataError, match=rf"\b{split}$"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("rows", "split"),
    [([*TRAINING[:-1], *VALIDATION], "Training"), ([*TRAINING, *VALIDATION[:-1]], "PublicTest")],
)
def test_open_csv_split_without_an_emotion_is_refused(
    tmp_path: Path, rows: list[str], split: str
) -> None:
    path = tmp_path / "fer2013.csv"
    write_rows(path, *rows)
    with pytest.raises(DataError, match=rf"\bneutral\b.*\b{split}\b"):
        open_dataset(path)


def test_stratified_fifth_without_an_emotion_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    write_rows(path, *TRAINING[:-1] * 23, *TRAINING[-1:] * 2)
    with pytest.raises(DataError, match=r"\bneutral\b"):
        open_dataset(path, Splitting.STRATIFIED)


def test_open_csv_skips_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    write_rows(path, *TRAINING, "", *VALIDATION, "", "")
    assert open_dataset(path).unreadable.faults == ()


def test_open_csv_needs_less_memory_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    pixels = " ".join(["200"] * 2304)
    usages = ("Training", "PublicTest")
    write_rows(path, *[f"{code},{pixels},{usage}" for usage in usages for code in EMOTIONS] * 28)
    tracemalloc.start()
    try:
        open_dataset(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_open_csv_shows_progress_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fer2013.csv"
    write_rows(path, *TRAINING, *VALIDATION)
    for screen, is_printed in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", screen)
        open_dataset(path)
        assert ("fer2013.csv: " in screen.getvalue()) == is_printed


def test_open_csv_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text(f"emotion,pixels\n3,{PIXELS}\n")
    with pytest.raises(DataError, match=r"fer2013\.csv: .*\bUsage$"):
        open_dataset(path)


def test_open_csv_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"fer2013\.csv: "):
        open_dataset(path)
