"""Kaggle's `fer2013.csv`: a row a face, its pixels as 2,304 numbers in one cell.

Also `icml_face_data.csv`, the same data with the columns in another order.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import CROP_SIDE
from emotion_trainer.data.dataset import PUBLIC_TEST, TRAINING, Dataset
from emotion_trainer.data.gathering import Gatherer
from emotion_trainer.data.splitting import Splitting
from emotion_trainer.data.table import parse_emotion, read_rows
from emotion_trainer.errors import RowError

FILE_NAME: Final = "fer2013.csv"
COLUMNS: Final = ("emotion", "pixels", "Usage")
SPLITS: Final = (TRAINING, PUBLIC_TEST)
HELD_OUT: Final = "PrivateTest"


def load(path: Path, splitting: Splitting) -> Dataset:
    """Load the Training and PublicTest rows; PrivateTest is not read.

    Raises:
        DataError: too many rows are malformed, or a column or split is missing.
    """
    gathered = Gatherer(path, *SPLITS)
    for row in read_rows(path, COLUMNS):
        with gathered.skipping():
            cells = row.by_column()
            usage = cells["Usage"].strip()
            if usage == HELD_OUT:
                continue
            if usage not in SPLITS:
                known = ", ".join((*SPLITS, HELD_OUT))
                raise RowError(f"{row.where}: Usage is {usage!r}, none of {known}")
            image = _parse_pixels(cells["pixels"], row.where)
            gathered.add(usage, row.where, image, parse_emotion(cells["emotion"], row.where))
    return gathered.build(splitting)


def _parse_pixels(text: str, where: str) -> NDArray[np.uint8]:
    try:
        pixels = np.array(text.split(), dtype=np.uint8)
    except (ValueError, OverflowError):
        raise RowError(f"{where}: pixels must be whole numbers from 0 to 255") from None
    if pixels.size != CROP_SIDE**2:
        raise RowError(
            f"{where}: has {pixels.size} pixels, not {CROP_SIDE**2}; the file may be truncated"
        )
    return pixels.reshape(CROP_SIDE, CROP_SIDE)
