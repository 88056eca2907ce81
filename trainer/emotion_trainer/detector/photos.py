"""Photos with labelled faces, and their division into training, calibration and test.

A folder holds either `labels.json` or WIDER FACE (see `wider.py`). `labels.json` is a list of
objects with `file`, `faces` and perhaps `ignore`. A face has `box` [x, y, width, height] and, where
known, `landmarks` (ten numbers). `ignore` lists boxes that count neither as faces nor as
background.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import cv2
import numpy as np
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from emotion_trainer.detector import wider
from emotion_trainer.detector.faces import (
    LANDMARKS,
    Faces,
    LabelledImage,
    concatenate_faces,
    faces_from,
)
from emotion_trainer.errors import DataError

LABELS: Final = "labels.json"
TEST_SHARE: Final = 0.15
"""Of the photos; they are for measurements alone."""
CALIBRATION_SHARE: Final = 0.05
"""Of the photos; they select the best epoch and calibrate the scores."""
MAX_SIDE: Final = 640
"""Pixels: the longer side to which larger photos are reduced, by averaging areas in grey.

The daemon limits the side alike, but halves the image, then interpolates."""

Part = Literal["training", "calibration", "test"]
Numbers = list[float]
Box = Annotated[Numbers, Field(min_length=4, max_length=4)]


def _require_area(box: Numbers) -> Numbers:
    if min(box[2:]) <= 0:
        raise ValueError("width and height of a box must be above 0")
    return box


class _Face(BaseModel):
    box: Annotated[Box, AfterValidator(_require_area)]
    landmarks: Annotated[Numbers, Field(min_length=10, max_length=10)] | None = None


class _Photo(BaseModel):
    file: str
    faces: list[_Face]
    ignore: list[Box] = []


@dataclass(frozen=True)
class Photos:
    """Photos of one or more folders, each in one part."""

    training: tuple[LabelledImage, ...]
    calibration: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]
    fingerprint: str


def load_photos(folders: Sequence[Path]) -> Photos:
    """Read the photos in some folders.

    Raises:
        DataError: a folder is of neither form, its labels are damaged, a photo is missing, or
            there are too few photos for each part.
    """
    parts: dict[Part, list[LabelledImage]] = {"training": [], "calibration": [], "test": []}
    digest = hashlib.sha256()
    for folder in folders:
        for name, faces in read_labels(folder):
            photo = read_photo(folder / name, faces)
            for part in (faces.boxes, faces.landmarks, faces.doubtful, photo.image):
                digest.update(part.tobytes())
            digest.update(name.encode())
            parts[part_of(name)].append(photo)
    if missing := [part for part, images in parts.items() if not images]:
        places = ", ".join(map(str, folders))
        raise DataError(f"{places}: too few photos, none for {', '.join(missing)}; add photos")
    return Photos(
        tuple(parts["training"]),
        tuple(parts["calibration"]),
        tuple(parts["test"]),
        digest.hexdigest(),
    )


def part_of(name: str) -> Part:
    """The part that a photo belongs to, by a hash of its file name."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
    if share < TEST_SHARE:
        return "test"
    return "calibration" if share < TEST_SHARE + CALIBRATION_SHARE else "training"


def has_labels(folder: Path) -> bool:
    """Whether a folder holds labelled photos of either form."""
    return (folder / LABELS).exists() or wider.is_wider(folder)


def read_labels(folder: Path) -> list[tuple[str, Faces]]:
    """The photos' names in a folder, sorted, with their faces; ignored boxes are doubtful faces.

    Raises:
        DataError: the folder is of neither form, or its labels are damaged.
    """
    labels = wider.read_labels(folder) if wider.is_wider(folder) else _read_json(folder)
    return sorted(labels, key=lambda labelled: labelled[0])


def read_photo(path: Path, faces: Faces) -> LabelledImage:
    """A photo in grey, reduced to `MAX_SIDE` with its faces if it is larger.

    Raises:
        DataError: it cannot be read.
    """
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: cannot be read as an image")
    photo = LabelledImage(np.asarray(image, np.uint8), faces)
    scale = MAX_SIDE / max(image.shape)
    return photo if scale >= 1 else photo.scaled(scale)


def _read_json(folder: Path) -> Iterator[tuple[str, Faces]]:
    path = folder / LABELS
    try:
        photos = TypeAdapter(list[_Photo]).validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"--photos: {LABELS} cannot be read: {error.strerror} (got {folder}); name a "
            f"folder with {LABELS}, or WIDER FACE"
        ) from error
    except (ValidationError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: is damaged: {str(error).partition(chr(10))[0]}") from error
    for photo in photos:
        yield photo.file, _faces(photo)


def _faces(photo: _Photo) -> Faces:
    unknown = [np.nan] * (2 * LANDMARKS)
    sure = faces_from(
        np.array([face.box for face in photo.faces], np.float32).reshape(-1, 4),
        np.array([face.landmarks or unknown for face in photo.faces], np.float32),
    )
    ignored = faces_from(np.array(photo.ignore, np.float32).reshape(-1, 4))
    return concatenate_faces([sure, replace(ignored, doubtful=np.ones(len(ignored), np.bool_))])
