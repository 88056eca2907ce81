"""Pictures in folders named after their emotions, as in Kaggle's `msambare/fer2013`.

    train/angry/… train/disgust/… …    the pictures to learn from
    test/angry/… test/disgust/… …      those to validate on; also `validation` or `val`

The seven folders can also stand at the top. Without pictures to validate on, a fifth of all is
held back for that.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from sklearn.preprocessing import LabelEncoder
from tqdm import tqdm

from edge_daemon.capture.images import ImageError, read_image
from edge_daemon.records import CROP_SIDE, EMOTIONS, Image
from emotion_trainer.data.dataset import Dataset
from emotion_trainer.data.gathering import Gatherer
from emotion_trainer.data.splitting import Splitting
from emotion_trainer.errors import DataError, RowError

TRAINING_FOLDER: Final = "train"
VALIDATION_FOLDERS: Final = ("validation", "val", "test")
"""The first of these that is there is validated on; another one is left unseen."""


@dataclass(frozen=True)
class LabelledFile:
    """A picture's file and its label, an index into `EMOTIONS`."""

    path: Path
    label: int


def is_layout(folder: Path) -> bool:
    """Whether the folder is laid out like this, be it with faults."""
    names = {path.name.lower() for path in _subfolders(folder)}
    return not names.isdisjoint({TRAINING_FOLDER, *EMOTIONS})


def load(folder: Path, splitting: Splitting) -> Dataset:
    """Load the pictures in `folder`, brought to 48x48 grey pixels where they are others.

    Raises:
        DataError: the folders are not those of the seven emotions, one of them is empty, or too
            many pictures cannot be read.
    """
    parts = parts_of(folder)
    if len(parts) == 1 or splitting is Splitting.STRATIFIED:
        parts, splitting = parts[:1], Splitting.STRATIFIED
    gathered = Gatherer(folder, parts[0].name, parts[-1].name)
    files = [(part.name, file) for part in parts for file in labelled_files(part)]
    # `disable=None`: unless on a terminal.
    for part, file in tqdm(files, desc=folder.name, unit=" pictures", leave=False, disable=None):
        with gathered.skipping():
            place = str(file.path.relative_to(folder))
            gathered.add(part, place, to_face(read_picture(file.path, place)), file.label)
    return gathered.build(splitting)


def parts_of(folder: Path) -> list[Path]:
    """The folder to learn from, and the one to validate on if there is one."""
    by_name = {path.name.lower(): path for path in _subfolders(folder)}
    if TRAINING_FOLDER not in by_name:
        return [folder]
    validation = [by_name[name] for name in VALIDATION_FOLDERS if name in by_name]
    return [by_name[TRAINING_FOLDER], *validation[:1]]


def labelled_files(part: Path) -> list[LabelledFile]:
    """The files in the folders of the seven emotions, sorted by name.

    Raises:
        DataError: a folder is missing or empty, or one is named after no emotion.
    """
    return [
        LabelledFile(path, label)
        for folder, label in zip(*_emotion_folders(part), strict=True)
        for path in _files(folder)
    ]


def read_picture(path: Path, place: str) -> Image:
    """A picture, BGR uint8 [H, W, 3].

    Raises:
        RowError: it cannot be decoded; `place` names it.
    """
    try:
        return read_image(path)
    except ImageError as error:
        raise RowError(f"{place}: {error.problem}") from error


def to_face(picture: Image) -> Image:
    """A picture of a face alone, BGR uint8 [H, W, 3], as grey uint8 [48, 48]."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    face = cv2.resize(grey, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(face, np.uint8)


def _emotion_folders(part: Path) -> tuple[list[Path], list[int]]:
    folders = _subfolders(part)
    names = [path.name.lower() for path in folders]
    faults = [f"{name} is missing" for name in EMOTIONS if name not in names]
    faults += [f"{name} is none of them" for name in names if name not in EMOTIONS]
    if faults:
        raise DataError(f"{part}: needs the folders {', '.join(EMOTIONS)}; {', '.join(faults)}")
    # The encoder counts in alphabetical order; the columns of a model stand in FER2013's.
    encoder = LabelEncoder().fit(EMOTIONS)
    official = [EMOTIONS.index(name) for name in encoder.classes_]
    return folders, [official[code] for code in encoder.transform(names)]


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not _is_hidden(path))
    if not files:
        raise DataError(f"{folder}: holds no picture")
    return files


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path))


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")
