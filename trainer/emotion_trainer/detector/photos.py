"""Photos with labelled faces, and which of them are held out.

Two forms are read:

- A folder with `labels.json`: a list of objects with `file`, `width`, `height` and `faces`, each
  of these with `box` [x, y, width, height] and, where known, `landmarks` (ten numbers).
- WIDER FACE (Yang et al. 2016), see `wider.py`.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import cv2
import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from emotion_trainer.detector import wider
from emotion_trainer.detector.faces import LANDMARKS, Faces, Picture, faces_from
from emotion_trainer.errors import DataError

LABELS: Final = "labels.json"
HELD_OUT: Final = 0.1
"""The part of the photos that is never learnt from."""
LONGEST_SIDE: Final = 480
"""Larger photos are reduced: scenes are smaller anyway."""

Numbers = list[float]


class _Face(BaseModel):
    box: Annotated[Numbers, Field(min_length=4, max_length=4)]
    landmarks: Annotated[Numbers, Field(min_length=10, max_length=10)] | None = None


class _Photo(BaseModel):
    file: str
    faces: list[_Face]


@dataclass(frozen=True)
class Photos:
    """Photos to learn from, and others to validate on."""

    training: tuple[Picture, ...]
    validation: tuple[Picture, ...]
    fingerprint: str


def load_photos(path: Path) -> Photos:
    """Read the photos in a folder. Which are held out, their names alone decide.

    Raises:
        DataError: the folder is of neither form, its labels are damaged, or a photo is missing.
    """
    labelled = dict(wider.read_labels(path) if wider.is_wider(path) else _read_labels(path))
    kept: list[Picture] = []
    held_out: list[Picture] = []
    digest = hashlib.sha256()
    for name, faces in sorted(labelled.items()):
        picture = _load(path / name, faces)
        digest.update(name.encode() + faces.boxes.tobytes() + picture.image.tobytes())
        (held_out if is_held_out(name) else kept).append(picture)
    if not kept or not held_out:
        raise DataError(f"{path}: too few photos to learn from some and to hold out others")
    return Photos(tuple(kept), tuple(held_out), digest.hexdigest())


def is_held_out(name: str) -> bool:
    """Whether a photo of this name is validated on."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4]) < HELD_OUT * 2**32


def _read_labels(folder: Path) -> Iterator[tuple[str, Faces]]:
    path = folder / LABELS
    try:
        photos = TypeAdapter(list[_Photo]).validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{folder}: holds neither {LABELS} nor WIDER FACE: {error.strerror}"
        ) from error
    except (ValidationError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: is damaged: {str(error).partition(chr(10))[0]}") from error
    for photo in photos:
        yield photo.file, _faces(photo)


def _faces(photo: _Photo) -> Faces:
    unknown = [np.nan] * (2 * LANDMARKS)
    return faces_from(
        np.array([face.box for face in photo.faces], np.float32).reshape(-1, 4),
        np.array([face.landmarks or unknown for face in photo.faces], np.float32),
    )


def _load(path: Path, faces: Faces) -> Picture:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: cannot be read as a picture")
    scale = LONGEST_SIDE / max(image.shape)
    if scale >= 1:
        return Picture(np.asarray(image, np.uint8), faces)
    reduced = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return Picture(np.asarray(reduced, np.uint8), faces.moved(scale * np.eye(2, 3)))
