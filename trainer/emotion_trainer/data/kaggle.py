"""Kaggle's `fer2013.csv`: a row a face, its pixels as 2,304 numbers in one cell.

Also its twin `icml_face_data.csv`, whose columns stand in another order.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import CROP_SIDE
from emotion_trainer.data.dataset import Dataset, SplitBuilder, parse_emotion
from emotion_trainer.data.table import read_rows
from emotion_trainer.errors import DataError

FILE_NAME: Final = "fer2013.csv"
COLUMNS: Final = ("emotion", "pixels", "Usage")
HELD_OUT: Final = "PrivateTest"


def load(path: Path) -> Dataset:
    """Load the Training and PublicTest rows; PrivateTest stays unseen.

    Raises:
        DataError: a row is malformed, or a split is missing; the message names the row.
    """
    splits = {"Training": SplitBuilder(), "PublicTest": SplitBuilder()}
    for where, row in read_rows(path, COLUMNS):
        usage = row["Usage"].strip()
        if usage == HELD_OUT:
            continue
        if usage not in splits:
            raise DataError(f"{where}: Usage is {usage!r}, none of {', '.join(splits)}, {HELD_OUT}")
        image = _parse_pixels(row["pixels"], where)
        splits[usage].add(image, parse_emotion(row["emotion"], where))
    return Dataset(
        training=splits["Training"].build("Training", path),
        validation=splits["PublicTest"].build("PublicTest", path),
    )


def _parse_pixels(text: str, where: str) -> NDArray[np.uint8]:
    try:
        pixels = np.array(text.split(), dtype=np.uint8)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: has pixels that are no whole numbers from 0 to 255") from None
    if pixels.size != CROP_SIDE**2:
        raise DataError(
            f"{where}: has {pixels.size} pixels, not {CROP_SIDE**2}; the file may be truncated"
        )
    return pixels.reshape(CROP_SIDE, CROP_SIDE)
