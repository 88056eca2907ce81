"""Data sets: FER2013 in the forms in which people have it, and faces of their own.

A form is one file with one `load` function; `open_dataset` picks by what the path is.
"""

from pathlib import Path

from emotion_trainer.data import folders, kaggle, sheets
from emotion_trainer.data.dataset import Dataset, Split
from emotion_trainer.data.splitting import Splitting
from emotion_trainer.errors import DataError

__all__ = ["Dataset", "Split", "Splitting", "open_dataset"]


def open_dataset(path: Path, splitting: Splitting = Splitting.OFFICIAL) -> Dataset:
    """Load the data set at `path`: Kaggle's `fer2013.csv`, or a folder of sheets or of pictures.

    Raises:
        DataError: nothing is there, or what is there is damaged or of another form.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        return kaggle.load(path, splitting)
    if (path / sheets.INDEX_NAME).is_file():
        return sheets.load(path, splitting)
    if (path / kaggle.FILE_NAME).is_file():
        return kaggle.load(path / kaggle.FILE_NAME, splitting)
    if folders.is_layout(path):
        return folders.load(path, splitting)
    raise DataError(
        f"{path}: holds neither {sheets.INDEX_NAME} nor {kaggle.FILE_NAME} nor a folder for each "
        "emotion"
    )
