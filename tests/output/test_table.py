import csv
import dataclasses
from pathlib import Path

import pytest
from builders import probabilities, result
from disks import small_disk

from edge_daemon.errors import OutputError
from edge_daemon.output import Outputs
from edge_daemon.output.base import SUMMARY_SUFFIXES, VIDEO_FORMATS, WRITABLE_IMAGE_SUFFIXES
from edge_daemon.output.table import COLUMNS, ROWS_PER_GROUP, CsvTable, ParquetTable, rows_of
from edge_daemon.records import EMOTIONS, FrameResult

PAGE = (Path(__file__).parents[2] / "docs" / "output.md").read_text(encoding="utf-8")


def video_result(at: float = 1.23456) -> FrameResult:
    """A frame of a video with a scored face and one that is not."""
    made = result(at, {1: probabilities(happy=0.7), 2: None})
    return dataclasses.replace(made, frame=dataclasses.replace(made.frame, position_s=at))


def test_rows_have_all_columns_in_order() -> None:
    for row in rows_of(video_result()):
        assert list(row) == list(COLUMNS)


def test_rows_of_an_unscored_face_have_empty_probabilities() -> None:
    scored, unscored = rows_of(video_result())
    assert scored["happy"] == 0.7
    assert [unscored[name] for name in (*EMOTIONS, "emotion", "confidence")] == [None] * 9


def test_rows_of_a_camera_have_a_time_and_no_position() -> None:
    row, _ = rows_of(result(0.0, {1: probabilities(happy=0.7), 2: None}))
    assert (row["time"], row["position_s"]) == ("2026-01-01T00:00:00.000Z", None)


def test_csv_of_names_with_commas_is_quoted(tmp_path: Path) -> None:
    table = CsvTable(tmp_path / "t.csv")
    made = result(0.0, {1: probabilities(happy=0.7)})
    name = 'a, "b" ü.jpg'
    table.write(dataclasses.replace(made, frame=dataclasses.replace(made.frame, file=name)))
    table.close()
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["file"] == name


@pytest.mark.slow
def test_csv_on_a_full_disk_keeps_the_complete_rows(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "32k") as disk:
        table = CsvTable(disk / "t.csv")
        outputs = Outputs([table])
        results = [video_result()] * 1000
        with pytest.raises(OutputError):
            list(map(outputs, results))
        with table.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) > 50
        assert all(None not in row.values() for row in rows)
        assert [file.name for file in disk.iterdir()] == ["t.csv"]


def test_parquet_has_typed_columns_and_all_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = ParquetTable(tmp_path / "t.parquet")
    frames = ROWS_PER_GROUP // 2 + 1
    made = video_result()
    for number in range(frames):
        table.write(dataclasses.replace(made, frame=dataclasses.replace(made.frame, index=number)))
    table.close()
    read = parquet.read_table(tmp_path / "t.parquet")
    assert read.num_rows == 2 * frames
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 2
    assert {field.name: str(field.type) for field in read.schema} == {
        name: {"float64": "double"}.get(kind, kind) for name, kind in COLUMNS.items()
    }
    assert read.column("position_s")[0].as_py() == 1.235
    assert read.column("happy").null_count == frames


def test_page_names_all_columns_and_suffixes() -> None:
    for name in COLUMNS.keys() - set(EMOTIONS):
        assert f"`{name}`" in PAGE
    for suffix in (*VIDEO_FORMATS, *SUMMARY_SUFFIXES, ".csv", ".parquet"):
        assert f"`{suffix}`" in PAGE
    assert ".png" in WRITABLE_IMAGE_SUFFIXES
