"""Tables of results: a row for each face in each frame."""

import contextlib
import csv
import io
import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from edge_daemon.errors import SettingsError
from edge_daemon.output.base import PartialFile, rename_to_number
from edge_daemon.records import EMOTIONS, FrameResult
from edge_daemon.schema import faces_message

logger = logging.getLogger(__name__)

Row = dict[str, object]

COLUMNS: Final[dict[str, str]] = {
    "file": "string",
    "frame": "int64",
    "position_s": "float64",
    "time": "string",
    "track_id": "int64",
    "x": "int32",
    "y": "int32",
    "width": "int32",
    "height": "int32",
    "score": "float64",
    "emotion": "string",
    "confidence": "float64",
    "uncertain": "bool",
    **dict.fromkeys(EMOTIONS, "float64"),
    "unscored": "string",
}
"""Names of the columns, in order, and their types in Apache Arrow."""

MAX_ROW_BYTES: Final = 1 << 16
"""More than a row of a CSV table has."""

ROWS_PER_GROUP: Final = 10_000
"""Rows that a Parquet file writes at once; they are in memory until then."""


def rows_of(result: FrameResult) -> Iterator[Row]:
    """The rows of one frame, with the values of the message on the topic `faces`."""
    frame = result.frame
    is_file = frame.file is not None or frame.position_s is not None
    message = faces_message(result, latency_ms=0)
    for face in message.faces:
        x, y, width, height = face.box
        yield {
            "file": message.file,
            "frame": frame.index,
            "position_s": None if frame.position_s is None else round(frame.position_s, 3),
            # Of a file, the time of its analysis would be misread as that of its recording.
            "time": None if is_file else message.model_dump(mode="json")["time"],
            "track_id": face.track_id,
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "score": face.score,
            "emotion": face.emotion,
            "confidence": face.confidence,
            "uncertain": face.uncertain,
            **(face.probabilities or dict.fromkeys(EMOTIONS)),
            "unscored": None if face.unscored is None else str(face.unscored),
        }


class CsvTable:
    """A table as comma-separated values (RFC 4180), UTF-8.

    Args:
        path: the file to write.
        is_live: whether its rows cannot be made again, so that no earlier table is replaced.
    """

    def __init__(self, path: Path, *, is_live: bool = False) -> None:
        self.path = path
        self._is_live = is_live
        self._file = PartialFile(path)
        self._stream: io.TextIOWrapper | None = None

    def write(self, result: FrameResult) -> None:
        writer = csv.DictWriter(self._opened(), list(COLUMNS), lineterminator="\n")
        for row in rows_of(result):
            writer.writerow(row | {"uncertain": str(row["uncertain"]).lower()})

    def close(self) -> None:
        self._opened().close()
        self._file.complete(keeps_earlier=self._is_live)

    def discard(self) -> None:
        """Keep the complete rows: those of weeks must not be lost to a full disk."""
        if self._stream is None:
            return
        with contextlib.suppress(OSError):  # of the disk that is full
            self._stream.close()
        with contextlib.suppress(OSError):
            if _truncate_to_rows(self._file.partial):
                self._file.complete(keeps_earlier=self._is_live)
        self._file.discard()

    def _opened(self) -> io.TextIOWrapper:
        """The file, with its header from the start. A killed process loses no row of it."""
        if self._stream is None:
            self._file.lock()
            self._keep_killed()
            self._stream = self._file.partial.open("w", buffering=1, encoding="utf-8", newline="")
            csv.writer(self._stream, lineterminator="\n").writerow(COLUMNS)
        return self._stream

    def _keep_killed(self) -> None:
        """Keep the rows of a run that was killed, under a number."""
        partial = self._file.partial
        if not _truncate_to_rows(partial):
            return
        if self._is_live and self.path.exists():  # numbers are in the order of the runs
            rename_to_number(self.path, self.path)
        kept = rename_to_number(partial, self.path)
        self._file.lock()  # a new one
        logger.warning("table of a killed run kept", extra={"file": str(kept)})


def _truncate_to_rows(path: Path) -> bool:
    """Cut off an incomplete last row, and return whether any row is left below the header."""
    with path.open("r+b") as file:
        start = file.seek(max(0, path.stat().st_size - MAX_ROW_BYTES))
        tail = file.read()
        file.truncate(start + tail.rfind(b"\n") + 1)
        file.seek(0)
        return sum(1 for _ in islice(file, 2)) == 2  # the header and a row


class ParquetTable:
    """A table as Apache Parquet, by pyarrow. It cannot be read before its end is written.

    Args:
        path: the file to write.
        is_live: whether its rows cannot be made again, so that no earlier table is replaced.

    Raises:
        SettingsError: pyarrow is not installed.
    """

    def __init__(self, path: Path, *, is_live: bool = False) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise SettingsError(
                f"--output: a .parquet file requires pyarrow (got {path}); "
                "pip install 'edge-daemon[parquet]', or name a .csv file"
            ) from error
        self.path = path
        self._is_live = is_live
        self._file = PartialFile(path)
        self._schema = pa.schema(
            [(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()]
        )
        self._new_writer: Callable[[], Any] = partial(
            pq.ParquetWriter, self._file.partial, self._schema
        )
        self._table_of = partial(pa.Table.from_pylist, schema=self._schema)
        self._writer: Any = None
        self._rows: list[Row] = []

    def write(self, result: FrameResult) -> None:
        if not self._file.is_locked:
            self._file.lock()
        self._rows.extend(rows_of(result))
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush().close()
        self._file.complete(keeps_earlier=self._is_live)

    def discard(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of the disk that is full
                self._writer.close()
        self._file.discard()

    def _flush(self) -> Any:  # noqa: ANN401  # pyarrow has no types
        """Write the collected rows, and return the writer."""
        if self._writer is None:
            self._writer = self._new_writer()
        self._writer.write_table(self._table_of(self._rows))
        self._rows.clear()
        return self._writer
