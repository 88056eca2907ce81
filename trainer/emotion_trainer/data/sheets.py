"""FER2013 as sheets: PNG images of 48x48 faces each, and `labels.csv` with a row a face.

A sheet is 2304x2304 grey pixels, its cells row-major. Sheets whose name begins with `training`
hold the Training split, those with `publictest` the PublicTest split. The table has the columns
sheet, cell, emotion and the ten FER+ votes.
"""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import CROP_SIDE
from emotion_trainer.data.dataset import PUBLIC_TEST, TRAINING, VOTES, Dataset
from emotion_trainer.data.gathering import Gatherer
from emotion_trainer.data.splitting import Splitting
from emotion_trainer.data.table import parse_emotion, parse_integer, read_rows
from emotion_trainer.errors import DataError, RowError

INDEX_NAME: Final = "labels.csv"
COLUMNS: Final = ("sheet", "cell", "emotion", *VOTES)
SPLITS: Final = {"training": TRAINING, "publictest": PUBLIC_TEST}
CELLS_A_SIDE: Final = 48
SHEET_SIDE: Final = CELLS_A_SIDE * CROP_SIDE
MAX_VOTES: Final = 10


def load(folder: Path, splitting: Splitting) -> Dataset:
    """Load the sheets in `folder`.

    Raises:
        DataError: the table or a sheet is missing or damaged, or too many rows are malformed.
    """
    gathered = Gatherer(folder, *SPLITS.values())
    sheets: dict[str, NDArray[np.uint8]] = {}
    for row in read_rows(folder / INDEX_NAME, COLUMNS):
        with gathered.skipping():
            cells = row.by_column()
            name = cells["sheet"]
            split = SPLITS.get(name.partition("_")[0])
            if split is None:
                raise RowError(f"{row.where}: sheet {name!r}: name has no split")
            if name not in sheets:
                sheets[name] = _read_listed_sheet(folder / name, row.where)
            image = sheets[name][_parse_cell(cells["cell"], row.where)]
            label = parse_emotion(cells["emotion"], row.where)
            gathered.add(split, row.where, image, label, _parse_votes(cells, row.where))
    return gathered.build(splitting)


def _read_listed_sheet(path: Path, where: str) -> NDArray[np.uint8]:
    if not path.is_file():
        raise DataError(f"{path}: not found; {where} of {INDEX_NAME} names it")
    return read_sheet(path)


def read_sheet(path: Path) -> NDArray[np.uint8]:
    """Read a sheet's cells, uint8 [2304, 48, 48].

    Raises:
        DataError: the file is not an image, or of another size.
    """
    sheet = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if sheet is None:
        raise DataError(f"{path}: not an image, or truncated")
    if sheet.shape != (SHEET_SIDE, SHEET_SIDE):
        height, width = sheet.shape
        raise DataError(f"{path}: is {width}x{height} pixels, not {SHEET_SIDE}x{SHEET_SIDE}")
    cells = sheet.reshape(CELLS_A_SIDE, CROP_SIDE, CELLS_A_SIDE, CROP_SIDE).transpose(0, 2, 1, 3)
    return cells.reshape(-1, CROP_SIDE, CROP_SIDE).astype(np.uint8, copy=False)


def _parse_cell(text: str, where: str) -> int:
    cell = parse_integer(text, where, "cell")
    if not 0 <= cell < CELLS_A_SIDE**2:
        raise RowError(f"{where}: cell {cell} is out of range, 0 to {CELLS_A_SIDE**2 - 1}")
    return cell


def _parse_votes(cells: dict[str, str], where: str) -> list[int]:
    votes = [parse_integer(cells[name], where, name) for name in VOTES]
    if any(not 0 <= count <= MAX_VOTES for count in votes):
        raise RowError(f"{where}: a count of votes is out of range, 0 to {MAX_VOTES}")
    return votes
