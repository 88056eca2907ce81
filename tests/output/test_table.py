import csv
import dataclasses
from pathlib import Path

import pytest
from builders import probabilities, result
from disks import small_disk

from edge_daemon.errors import OutputError
from edge_daemon.output import SUMMARY_SUFFIXES, Outputs
from edge_daemon.output.base import VIDEO_FORMATS, WRITABLE_IMAGE_SUFFIXES
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


def rows_in(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row["frame"] for row in csv.DictReader(file)]


def write_frame(table: CsvTable | ParquetTable, number: int) -> None:
    """Add a frame with this number and one face."""
    made = result(0.0, {1: probabilities(happy=0.7)})
    table.write(dataclasses.replace(made, frame=dataclasses.replace(made.frame, index=number)))


def leave_partial(path: Path, *numbers: int, cut: int = 0) -> None:
    """Write the partial file of a run that was killed after these frames.

    Args:
        path: of the table.
        numbers: of the frames.
        cut: bytes that are missing at its end.
    """
    other = CsvTable(path.with_name("other.csv"))
    other.write(result(0.0, {}))
    for number in numbers:
        write_frame(other, number)
    content = path.with_name(".other.csv.part").read_bytes()  # without what is not yet written
    other.close()
    other.path.unlink()
    path.with_name(f".{path.name}.part").write_bytes(content[: len(content) - cut])


@pytest.mark.parametrize("cut", [0, 7])
def test_csv_of_a_killed_run_is_kept_with_its_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    path = tmp_path / "t.csv"
    leave_partial(path, 0, 1, 2, cut=cut)
    path.write_text("an earlier table")
    table = CsvTable(path)
    write_frame(table, 7)
    table.close()
    (line,) = caplog.records
    assert (line.msg, line.file) == ("table of a killed run kept", str(tmp_path / "t-1.csv"))
    assert rows_in(tmp_path / "t-1.csv") == ["0", "1", "2"][: 3 - bool(cut)]
    assert rows_in(path) == ["7"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t-1.csv", "t.csv"]


@pytest.mark.parametrize("table_type", [CsvTable, ParquetTable])
def test_table_that_another_run_writes_is_refused(
    tmp_path: Path, table_type: type[CsvTable | ParquetTable]
) -> None:
    if table_type is ParquetTable:
        pytest.importorskip("pyarrow")
    path = tmp_path / "t"
    first, second, third = (table_type(path) for _ in range(3))
    write_frame(first, 0)
    with pytest.raises(OutputError, match="another run writes this file"):
        Outputs([second])(video_result())
    write_frame(first, 1)
    first.close()
    size = path.stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == ["t"]
    write_frame(third, 2)  # the name is free again
    third.discard()
    assert table_type is CsvTable or path.stat().st_size == size


def test_csv_of_a_killed_run_without_rows_is_not_kept(tmp_path: Path) -> None:
    leave_partial(tmp_path / "t.csv")
    table = CsvTable(tmp_path / "t.csv")
    write_frame(table, 7)
    table.close()
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_csv_of_a_camera_replaces_no_earlier_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for number in range(3):
        table = CsvTable(path, is_live=True)
        write_frame(table, number)
        table.close()
    leave_partial(path, 3)
    table = CsvTable(path, is_live=True)
    write_frame(table, 4)
    table.discard()
    kept = {file.name: rows_in(file) for file in tmp_path.iterdir()}
    assert kept == {
        "t-1.csv": ["0"],
        "t-2.csv": ["1"],
        "t-3.csv": ["2"],
        "t-4.csv": ["3"],
        "t.csv": ["4"],
    }


def test_csv_with_the_longest_name_is_kept_with_a_number(tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 125}t.csv"
    for number in range(3):
        table = CsvTable(path, is_live=True)
        write_frame(table, number)
        table.close()
    assert sorted(rows_in(file)[0] for file in tmp_path.iterdir()) == ["0", "1", "2"]


def test_parquet_of_a_camera_replaces_no_earlier_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for number in range(2):
        table = ParquetTable(tmp_path / "t.parquet", is_live=True)
        write_frame(table, number)
        table.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t-1.parquet", "t.parquet"]


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
