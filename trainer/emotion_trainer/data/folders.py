"""Images in folders named after their emotions, as in Kaggle's `msambare/fer2013`.

    train/angry/… train/disgust/… …    the images to train on
    test/angry/… test/disgust/… …      those to validate on; also `validation`, `valid` or `val`

The seven folders can also be at the top. Without images to validate on, a fifth of all is held out.
Other usual words for the emotions work, too. Numbers have different meanings in different data
sets, so they need a numbering.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from tqdm import tqdm

from edge_daemon._lib.text import encodable
from edge_daemon.capture.image_decoding import ImageError, read_image
from edge_daemon.capture.images import IGNORED_NAMES
from edge_daemon.records import CROP_SIDE, EMOTIONS, Image
from emotion_trainer.data.dataset import Dataset
from emotion_trainer.data.gathering import Gatherer
from emotion_trainer.data.splitting import Splitting
from emotion_trainer.errors import DataError, RowError

TRAINING_FOLDER: Final = "train"
VALIDATION_FOLDERS: Final = ("validation", "valid", "val", "test")
"""The first of these that exists is validated on; the others are not read."""

SYNONYMS: Final = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Other words for the emotions, from the folders of public data sets."""


class Numbering(StrEnum):
    """The meaning of numbers as names of folders."""

    FER2013 = "fer2013"
    RAF_DB = "raf-db"


NUMBERED: Final[dict[Numbering, dict[str, str]]] = {
    Numbering.FER2013: {str(number): name for number, name in enumerate(EMOTIONS)},
    Numbering.RAF_DB: {
        "1": "surprise",
        "2": "fear",
        "3": "disgust",
        "4": "happy",
        "5": "sad",
        "6": "angry",
        "7": "neutral",
    },
}


@dataclass(frozen=True)
class LabelledFile:
    """An image's file and its label, an index into `EMOTIONS`."""

    path: Path
    label: int


def is_layout(folder: Path, numbering: Numbering | None = None) -> bool:
    """Whether the folder has this layout, even with errors."""
    names = {path.name.lower() for path in _subfolders(folder)}
    return not names.isdisjoint({TRAINING_FOLDER, *_emotions_by_name(numbering)})


def load(folder: Path, splitting: Splitting, numbering: Numbering | None = None) -> Dataset:
    """Load the images in `folder`, resized to 48x48 grey pixels.

    Args:
        folder: the folder with the layout above.
        splitting: what to validate on.
        numbering: what numbers as names of folders mean; None: numbers are refused.

    Raises:
        DataError: the folders are not those of the seven emotions, one of them is empty, or too
            many images cannot be read.
    """
    parts = parts_of(folder)
    if len(parts) == 1 or splitting is Splitting.STRATIFIED:
        parts, splitting = parts[:1], Splitting.STRATIFIED
    gathered = Gatherer(folder, parts[0].name, parts[-1].name)
    files = [(part.name, file) for part in parts for file in labelled_files(part, numbering)]
    # `disable=None`: unless on a terminal.
    for part, file in tqdm(files, desc=folder.name, unit=" images", leave=False, disable=None):
        with gathered.skipping():
            place = encodable(str(file.path.relative_to(folder)))
            gathered.add(part, place, to_face(load_image(file.path, place)), file.label)
    return gathered.build(splitting)


def parts_of(folder: Path) -> list[Path]:
    """The folder to train on, and the one to validate on if there is one."""
    by_name = {path.name.lower(): path for path in _subfolders(folder)}
    if TRAINING_FOLDER not in by_name:
        return [folder]
    validation = [by_name[name] for name in VALIDATION_FOLDERS if name in by_name]
    return [by_name[TRAINING_FOLDER], *validation[:1]]


def labelled_files(part: Path, numbering: Numbering | None = None) -> list[LabelledFile]:
    """The files in the folders of the seven emotions, sorted by name.

    Raises:
        DataError: a folder is missing or empty, or one is named after no emotion.
    """
    return [
        LabelledFile(path, label)
        for folder, label in _emotion_folders(part, numbering)
        for path in _files(folder)
    ]


def load_image(path: Path, place: str) -> Image:
    """Read an image, BGR uint8 [H, W, 3].

    Raises:
        RowError: it cannot be decoded; `place` names it.
    """
    try:
        return read_image(path)
    except ImageError as error:
        raise RowError(f"{place}: {error.problem}") from error


def to_face(image: Image) -> Image:
    """Convert an image of one face, BGR uint8 [H, W, 3], to grey uint8 [48, 48]."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    face = cv2.resize(grey, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(face, np.uint8)


def _emotion_folders(part: Path, numbering: Numbering | None) -> list[tuple[Path, int]]:
    """The folders, each with its label."""
    known = _emotions_by_name(numbering)
    folders = _subfolders(part)
    emotions = [known.get(path.name.lower()) for path in folders]
    faults = [f"no folder {name}" for name in EMOTIONS if name not in emotions]
    faults += [f"more than one folder for {name}" for name in EMOTIONS if emotions.count(name) > 1]
    faults += [
        f"unknown folder {path.name}"
        for path, emotion in zip(folders, emotions, strict=True)
        if emotion is None
    ]
    if any(path.name.isdecimal() for path in folders) and numbering is None:
        faults.append("numbers as names, but no --numbering")
    if faults:
        raise DataError(
            f"{part}: {', '.join(faults)}; name one folder for each of {', '.join(EMOTIONS)}"
        )
    return [
        (folder, EMOTIONS.index(emotion))
        for folder, emotion in zip(folders, emotions, strict=True)
        if emotion is not None
    ]


def _emotions_by_name(numbering: Numbering | None) -> dict[str, str]:
    """The emotions by the names of folders that stand for them."""
    words = {name: name for name in EMOTIONS} | SYNONYMS
    return words if numbering is None else words | NUMBERED[numbering]


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not _is_hidden(path))
    if not files:
        raise DataError(f"{folder}: has no image; add some")
    return files


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path))


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in IGNORED_NAMES
