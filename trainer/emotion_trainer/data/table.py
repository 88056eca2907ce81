"""Reading CSV tables row by row, with errors that name the row."""

import csv
from collections.abc import Iterator
from pathlib import Path

from emotion_trainer.errors import DataError


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `(where, row)` for each row: a text that names the row, and its cells by column.

    Names in the header may have spaces around them, as in one of Kaggle's files.

    Raises:
        DataError: the file cannot be read, lacks one of `columns`, or a row has too few cells.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header, columns)
            for cells in reader:
                where = f"{path}: row {reader.line_num}"
                if len(cells) != len(header):
                    raise DataError(
                        f"{where}: has {len(cells)} cells, the header {len(header)}; "
                        "the file may be truncated"
                    )
                yield where, dict(zip(header, cells, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _check_header(path: Path, header: list[str], columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}")
