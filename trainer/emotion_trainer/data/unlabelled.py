"""Unlabelled faces as sheets of 48x48 cells, which are trained on by soft labels.

A folder holds `faces_00.png`, `faces_01.png` and so on, laid out as FER2013's sheets (see
`sheets.py`), and `count.json` with the number of faces, such as `{"faces": 13608}`. The cells
after the last face are black.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotion_trainer.data.sheets import read_sheet
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


def _read_count(path: Path) -> int:
    try:
        return _Count.model_validate_json(path.read_bytes()).faces
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    except ValidationError as error:
        raise DataError(f'{path}: invalid content; write {{"faces": NUMBER}}') from error
