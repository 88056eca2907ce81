"""Data sets: FER2013 in the forms in which people have it, and faces of their own.

A form is one file with one `load` function; `open_dataset` picks by what the path is.
"""

from dataclasses import replace
from pathlib import Path

from emotion_trainer.data import folders, kaggle, sheets
from emotion_trainer.data.dataset import Dataset, Split
from emotion_trainer.data.folders import Numbering
from emotion_trainer.data.splitting import Splitting
from emotion_trainer.data.unlabelled import load_unlabelled
from emotion_trainer.errors import DataError

__all__ = ["Dataset", "Numbering", "Split", "Splitting", "open_dataset"]


def open_dataset(
    path: Path,
    splitting: Splitting = Splitting.OFFICIAL,
    unlabelled: Path | None = None,
    numbering: Numbering | None = None,
) -> Dataset:
    """Load the data set at `path`: Kaggle's `fer2013.csv`, or a folder of sheets or of images.

    Args:
        path: the file or folder.
        splitting: what to validate on.
        unlabelled: a folder of sheets with further faces, see `unlabelled.py`.
        numbering: what numbers as names of folders mean.

    Raises:
        DataError: nothing is there, or what is there is damaged or of another form.
    """
    dataset = _open_labelled(path, splitting, numbering)
    dataset = replace(dataset, source=str(path))
    if unlabelled is None:
        return dataset
    return replace(dataset, unlabelled=load_unlabelled(unlabelled))


def _open_labelled(path: Path, splitting: Splitting, numbering: Numbering | None) -> Dataset:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        return kaggle.load(path, splitting)
    if (path / sheets.INDEX_NAME).is_file():
        return sheets.load(path, splitting)
    if (path / kaggle.FILE_NAME).is_file():
        return kaggle.load(path / kaggle.FILE_NAME, splitting)
    if folders.is_layout(path, numbering):
        return folders.load(path, splitting, numbering)
    raise DataError(
        f"--data: unknown form (got {path}); name {kaggle.FILE_NAME}, or a folder with "
        f"{kaggle.FILE_NAME}, {sheets.INDEX_NAME}, or a folder for each emotion"
    )
