"""Reading CSV tables row by row, with errors that name the row."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from edge_daemon.records import EMOTIONS
from emotion_trainer.errors import DataError, RowError


@dataclass(frozen=True)
class Row:
    """A row of a table; `where` identifies it in errors."""

    where: str
    header: list[str]
    cells: list[str]

    def by_column(self) -> dict[str, str]:
        """The cells by their columns.

        Raises:
            RowError: there are more or fewer cells than columns.
        """
        if len(self.cells) != len(self.header):
            raise RowError(
                f"{self.where}: has {len(self.cells)} cells, the header {len(self.header)}; "
                "the file may be truncated"
            )
        return dict(zip(self.header, self.cells, strict=True))


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows while the file is read, with a progress bar on a terminal.

    Names in the header may have spaces around them, as in one of Kaggle's files. Blank lines are
    skipped.

    Raises:
        DataError: the file cannot be read, or lacks one of `columns`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(_lines(file, path))
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header, columns)
            for cells in reader:
                if cells:
                    yield Row(f"row {reader.line_num}", header, cells)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    with tqdm(
        desc=path.name,
        total=path.stat().st_size,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,  # unless on a terminal
    ) as bar:
        for line in file:
            bar.update(len(line))
            yield line


def _check_header(path: Path, header: list[str], columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}")


def parse_emotion(text: str, where: str) -> int:
    """A label's official code, 0 to 6, which is its index in `EMOTIONS`.

    Raises:
        RowError: it is no such code; the error begins with `where`.
    """
    code = parse_integer(text, where, "emotion")
    if not 0 <= code < len(EMOTIONS):
        raise RowError(f"{where}: emotion {code} is out of range, 0 to {len(EMOTIONS) - 1}")
    return code


def parse_integer(text: str, where: str, column: str) -> int:
    """A whole number from a cell.

    Raises:
        RowError: it is none; the error begins with `where` and `column`.
    """
    try:
        return int(text)
    except ValueError:
        raise RowError(f"{where}: {column} is {text!r}, not a whole number") from None
