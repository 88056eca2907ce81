"""FER2013's PublicTest split, from a folder of sheets and `labels.csv`."""

import csv
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.errors import SourceError
from edge_daemon.records import CROP_SIDE, Image

SPLIT: Final = "publictest"
"""What the names of its sheets begin with."""


def load(folder: Path) -> tuple[Image, NDArray[np.int64]]:
    """Faces, uint8 [N, 48, 48], and the numbers of their emotions, [N].

    Raises:
        SourceError: the folder does not hold them.
    """
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["sheet"].startswith(SPLIT)]
    except OSError as error:
        raise SourceError(f"{folder}: no FER2013 as sheets: {error.strerror}") from error
    sheets = {name: _cells(folder / name) for name in {row["sheet"] for row in rows}}
    faces = np.stack([sheets[row["sheet"]][int(row["cell"])] for row in rows])
    return faces, np.array([int(row["emotion"]) for row in rows])


def _cells(path: Path) -> Image:
    """The faces of a sheet, row by row."""
    sheet = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if sheet is None:
        raise SourceError(f"{path}: not a picture that can be read")
    rows, columns = (side // CROP_SIDE for side in sheet.shape)
    cells = sheet.reshape(rows, CROP_SIDE, columns, CROP_SIDE).swapaxes(1, 2)
    return np.asarray(cells, np.uint8).reshape(-1, CROP_SIDE, CROP_SIDE)
