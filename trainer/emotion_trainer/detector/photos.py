"""Photos with labelled faces, and their division into training, calibration and test.

A folder holds either `labels.json` or WIDER FACE (see `wider.py`). `labels.json` is a list of
objects with `file` and `faces`. A face has `box` [x, y, width, height] and, where known,
`landmarks` (ten numbers). The other keys of a photo are optional:

- `ignore` lists boxes that count neither as faces nor as background.
- `source` names the video or series of the photo: photos with the same source are in the same part.
- `width` and `height` are those of the photo, which is refused if it has another size.

A labeller's `score` of a face is ignored.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from edge_daemon._lib.validation import name_of, reason
from edge_daemon.records import Image
from emotion_trainer.data.duplicates import correlates
from emotion_trainer.detector import wider
from emotion_trainer.detector.faces import (
    LANDMARKS,
    Faces,
    LabelledImage,
    concatenate_faces,
    faces_from,
)
from emotion_trainer.errors import DataError, did_you_mean

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


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Face(_Entry):
    box: Annotated[Box, AfterValidator(_require_area)]
    landmarks: Annotated[Numbers, Field(min_length=10, max_length=10)] | None = None
    score: float | None = None


class _Photo(_Entry):
    file: str
    width: int | None = None
    height: int | None = None
    source: str | None = None
    faces: list[_Face]
    ignore: list[Box] = []


KEYS: Final = (*_Photo.model_fields, *_Face.model_fields)


@dataclass(frozen=True)
class PhotoLabels:
    """The labels of one photo.

    Attributes:
        name: its path in the folder.
        faces: its faces; ignored boxes are doubtful faces.
        source: the video or series that it is from; its own name if it is from none.
        width: its width in pixels; None if unknown.
        height: likewise.
    """

    name: str
    faces: Faces
    source: str
    width: int | None = None
    height: int | None = None

    @property
    def part(self) -> Part:
        """The part that it belongs to."""
        return part_of(self.source)

    def require_size(self, image: Image, path: Path) -> None:
        """Refuse a photo of another size than the labels: its boxes are elsewhere.

        Raises:
            DataError: the size differs.
        """
        height, width = image.shape[:2]
        if (self.width or width, self.height or height) != (width, height):
            raise DataError(
                f"{path}: {LABELS} is of another size (got {width}x{height}, "
                f"labelled {self.width}x{self.height}); label the photo again"
            )


Labelled = Sequence[tuple[PhotoLabels, LabelledImage]]


@dataclass(frozen=True)
class Photos:
    """Photos of one or more folders, each in one part.

    Attributes:
        training: those to train on.
        calibration: those that select the best epoch and calibrate the scores.
        test: those for measurements alone.
        copies: how many were left out, as near-copies of photos of another part.
        fingerprint: a digest of the photos, their labels and their parts.
    """

    training: tuple[LabelledImage, ...]
    calibration: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]
    copies: int
    fingerprint: str


def load_photos(folders: Sequence[Path]) -> Photos:
    """Read the photos in some folders.

    A photo for training that is a near-copy of one for calibration or test is left out, as is one
    for calibration that is a near-copy of one for test.

    Raises:
        DataError: a folder is of neither form, its labels are damaged, a photo is missing, or
            there are too few photos for each part.
    """
    labelled = [
        (labels, read_photo(folder / labels.name, labels))
        for folder in folders
        for labels in read_labels(folder)
    ]
    copied = _copied(labelled)
    kept = [pair for pair, is_copied in zip(labelled, copied, strict=True) if not is_copied]
    parts: dict[Part, list[LabelledImage]] = {"training": [], "calibration": [], "test": []}
    for labels, photo in kept:
        parts[labels.part].append(photo)
    if missing := [part for part, images in parts.items() if not images]:
        places = ", ".join(map(str, folders))
        raise DataError(
            f"{places}: too few photos, none for {', '.join(missing)}; add photos of other sources"
        )
    return Photos(
        tuple(parts["training"]),
        tuple(parts["calibration"]),
        tuple(parts["test"]),
        int(copied.sum()),
        _digest(kept),
    )


def _digest(labelled: Labelled) -> str:
    digest = hashlib.sha256()
    for labels, photo in labelled:
        faces = labels.faces
        for array in (faces.boxes, faces.landmarks, faces.doubtful, photo.image):
            digest.update(array.tobytes())
        digest.update(labels.name.encode())
        if labels.source != labels.name:
            digest.update(labels.source.encode())
    return digest.hexdigest()


def _copied(labelled: Labelled) -> NDArray[np.bool_]:
    """Which photos are near-copies of photos of a part that must be unseen in their own, [N]."""
    parts = np.array([labels.part for labels, _ in labelled])
    images = [photo.image for _, photo in labelled]
    copied = np.zeros(len(images), np.bool_)
    for seen, unseen in (("training", ("calibration", "test")), ("calibration", ("test",))):
        of = np.flatnonzero(parts == seen).tolist()
        among = np.flatnonzero(np.isin(parts, unseen)).tolist()
        copied[of] = correlates([images[i] for i in of], [images[i] for i in among])
    return copied


def part_of(source: str) -> Part:
    """The part that the photos of a source belong to, by a hash of its name."""
    share = int.from_bytes(hashlib.sha256(source.encode()).digest()[:4]) / 2**32
    if share < TEST_SHARE:
        return "test"
    return "calibration" if share < TEST_SHARE + CALIBRATION_SHARE else "training"


def has_labels(folder: Path) -> bool:
    """Whether a folder holds labelled photos of either form."""
    return (folder / LABELS).exists() or wider.is_wider(folder)


def read_labels(folder: Path) -> list[PhotoLabels]:
    """The labels of the photos in a folder, sorted by name.

    Raises:
        DataError: the folder is of neither form, or its labels are damaged.
    """
    if wider.is_wider(folder):
        labels = [PhotoLabels(name, faces, name) for name, faces in wider.read_labels(folder)]
    else:
        labels = [_labels_of(photo) for photo in _read_json(folder)]
    counts = Counter(one.name for one in labels)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise DataError(
            f"{folder}: more than one entry for a photo (got {twice[0]}); list all of its faces in "
            "one entry"
        )
    return sorted(labels, key=lambda one: one.name)


def read_photo(path: Path, labels: PhotoLabels) -> LabelledImage:
    """A photo in grey, reduced to `MAX_SIDE` with its faces if it is larger.

    Raises:
        DataError: it cannot be read, or is of another size than its labels.
    """
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: cannot be read as an image")
    photo = LabelledImage(np.asarray(image, np.uint8), labels.faces)
    labels.require_size(photo.image, path)
    scale = MAX_SIDE / max(image.shape)
    return photo if scale >= 1 else photo.scaled(scale)


def _read_json(folder: Path) -> list[_Photo]:
    path = folder / LABELS
    try:
        return TypeAdapter(list[_Photo]).validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"--photos: {LABELS} cannot be read: {error.strerror} (got {folder}); name a "
            f"folder with {LABELS}, or WIDER FACE"
        ) from error
    except ValidationError as error:
        raise DataError(f"{path}: {_problem(error.errors()[0])}") from error


def _problem(problem: ErrorDetails) -> str:
    """A problem with the number of its photo, from 0, and its key."""
    name = name_of(problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{name}: unknown key{did_you_mean(str(problem['loc'][-1]), KEYS)}"
    return f"{name or 'the file'}: {reason(problem)}"


def _labels_of(photo: _Photo) -> PhotoLabels:
    source = photo.source or photo.file
    return PhotoLabels(photo.file, _faces(photo), source, photo.width, photo.height)


def _faces(photo: _Photo) -> Faces:
    unknown = [np.nan] * (2 * LANDMARKS)
    sure = faces_from(
        np.array([face.box for face in photo.faces], np.float32).reshape(-1, 4),
        np.array([face.landmarks or unknown for face in photo.faces], np.float32),
    )
    ignored = faces_from(np.array(photo.ignore, np.float32).reshape(-1, 4))
    return concatenate_faces([sure, replace(ignored, doubtful=np.ones(len(ignored), np.bool_))])
