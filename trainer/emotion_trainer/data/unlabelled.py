"""Unlabelled faces as sheets of 48x48 cells, which are trained on by soft labels.

A folder holds `faces_00.png`, `faces_01.png` and so on, laid out as FER2013's sheets (see
`sheets.py`), and `count.json` with the number of faces, such as `{"faces": 13608}`. The cells
after the last face are black.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion_trainer.data.dataset import no_faces
from emotion_trainer.data.sheets import CELLS_A_SHEET, read_sheet, sheet_of
from emotion_trainer.errors import DataError

COUNT_NAME: Final = "count.json"
SHEETS: Final = "faces_*.png"


class _Count(BaseModel):
    model_config = ConfigDict(extra="forbid")

    faces: int = Field(gt=0)


def load_unlabelled(folder: Path) -> NDArray[np.uint8]:
    """Load the faces of a folder of sheets, uint8 [N, 48, 48].

    Raises:
        DataError: `count.json` or a sheet is missing or damaged, or the sheets hold fewer faces.
    """
    count = _read_count(folder / COUNT_NAME)
    sheets = [read_sheet(path) for path in sorted(folder.glob(SHEETS))]
    cells = sum(map(len, sheets))
    if cells < count:
        raise DataError(
            f"{folder}: too few cells in {SHEETS} (got {cells}); {COUNT_NAME} requires {count}"
        )
    return np.concatenate(sheets)[:count]


def save_unlabelled(parts: Iterable[NDArray[np.uint8]], folder: Path) -> int:
    """Write faces as sheets and return their number; `count.json` is written last.

    Args:
        parts: uint8 [n, 48, 48] each.
        folder: is created if it is missing.

    Raises:
        DataError: the folder has such faces, or cannot be written to.
    """
    if (folder / COUNT_NAME).exists():
        raise DataError(f"{folder}: has faces already; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, faces in enumerate(_in_sheets(parts)):
        path = folder / f"faces_{number:04d}.png"
        if not cv2.imwrite(str(path), sheet_of(faces)):
            raise DataError(f"{path}: cannot be written; free disk space")
        count += len(faces)
    (folder / COUNT_NAME).write_text(_Count(faces=count).model_dump_json())
    return count


def _in_sheets(parts: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The same faces in parts of as many as a sheet holds; the last may be smaller."""
    waiting = no_faces()
    for part in parts:
        waiting = np.concatenate([waiting, part])
        while len(waiting) >= CELLS_A_SHEET:
            yield waiting[:CELLS_A_SHEET]
            waiting = waiting[CELLS_A_SHEET:]
    if len(waiting):
        yield waiting


def _read_count(path: Path) -> int:
    try:
        return _Count.model_validate_json(path.read_bytes()).faces
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    except ValidationError as error:
        raise DataError(f'{path}: invalid content; write {{"faces": NUMBER}}') from error
