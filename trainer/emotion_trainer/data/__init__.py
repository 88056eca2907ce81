"""Data sets: FER2013 in the forms in which people have it.

A form is one file with one `load` function; `open_dataset` picks by what the path is.
"""

from pathlib import Path

from emotion_trainer.data import kaggle, sheets
from emotion_trainer.data.dataset import Dataset, Split
from emotion_trainer.errors import DataError

__all__ = ["Dataset", "Split", "open_dataset"]


def open_dataset(path: Path) -> Dataset:
    """Load the data set at `path`: a folder of sheets, or Kaggle's `fer2013.csv`.

    Raises:
        DataError: nothing is there, or what is there is damaged or of another form.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        return kaggle.load(path)
    if (path / sheets.INDEX_NAME).is_file():
        return sheets.load(path)
    if (path / kaggle.FILE_NAME).is_file():
        return kaggle.load(path / kaggle.FILE_NAME)
    raise DataError(f"{path}: holds neither {sheets.INDEX_NAME} nor {kaggle.FILE_NAME}")
