"""Faces that occur more than once in a data set, pixel for pixel or nearly.

FER2013 has many, within its splits and across them, and some have two labels. Validation faces that
are also in the training split raise the measured accuracy.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import EMOTIONS, Image
from emotion_trainer.data.dataset import TRAINING, Dataset

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]
Images = Image | Sequence[Image]
"""Grey images: those of a list may be of several sizes."""

THUMBNAIL_SIDE: Final = 12
MIN_CORRELATION: Final = 0.995
"""Of the thumbnails of near-copies: the same photo, cropped or scaled differently."""

CHUNK: Final = 512
"""Images that are compared with all others at a time: 60 MB for FER2013."""


@dataclass(frozen=True)
class Repeats:
    """Which faces of a split occur again, in the same split or in another one.

    Attributes:
        faces: bool [N], those that occur again.
        contradicted: bool [N], those of them that occur with another label.
    """

    faces: Mask
    contradicted: Mask


@dataclass(frozen=True)
class Duplicates:
    """Which faces occur more than once.

    Attributes:
        image_numbers: int64 [N], training first; identical faces have the same number.
        in_training: the repeats within the training split.
        in_validation: those within the validation split.
        across: the validation faces that are also in the training split.
    """

    image_numbers: Numbers
    in_training: Repeats
    in_validation: Repeats
    across: Repeats


def find_duplicates(dataset: Dataset) -> Duplicates:
    """Compare all faces with one another."""
    image_numbers = _number_images(dataset)
    labels = np.concatenate([dataset.training.labels, dataset.validation.labels])
    # The same for faces with the same pixels and the same label.
    faces = image_numbers * len(EMOTIONS) + labels
    training = slice(len(dataset.training))
    validation = slice(len(dataset.training), None)

    def repeats(of: slice, among: slice) -> Repeats:
        others = _occurrences(image_numbers, of, among)
        agreeing = _occurrences(faces, of, among)
        return Repeats(others > int(of == among), others > agreeing)

    return Duplicates(
        image_numbers=image_numbers,
        in_training=repeats(training, training),
        in_validation=repeats(validation, validation),
        across=repeats(validation, training),
    )


def near_copies(dataset: Dataset) -> Mask:
    """The validation faces that are also in the training split, exactly or nearly, bool [N].

    Faces are near-copies if their thumbnails correlate. A plain image has no correlation, so it
    counts only if it is identical.
    """
    near = correlates(dataset.validation.images, dataset.training.images)
    copies: Mask = near | find_duplicates(dataset).across.faces
    return copies


def correlates(images: Images, others: Images) -> Mask:
    """Whether the thumbnail of each image correlates with one of the others, bool [N]."""
    if not len(images) or not len(others):
        return np.zeros(len(images), np.bool_)
    known = _standardised(others).T
    thumbnails = _standardised(images)
    near = [
        (thumbnails[start : start + CHUNK] @ known).max(axis=1) >= MIN_CORRELATION
        for start in range(0, len(thumbnails), CHUNK)
    ]
    return np.concatenate(near)


def _standardised(images: Images) -> NDArray[np.float32]:
    """Thumbnails of mean 0 and norm 1, float32 [N, 144]; their products are correlations."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    thumbnails = np.stack([cv2.resize(face, size, interpolation=cv2.INTER_AREA) for face in images])
    flat = thumbnails.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    standardised: NDArray[np.float32] = flat / np.maximum(norms, 1.0)
    return standardised


def write_duplicates(duplicates: Duplicates, dataset: Dataset, path: Path) -> None:
    """List all faces that occur more than once, as CSV; identical ones have the same number."""
    numbers = duplicates.image_numbers
    names = [TRAINING] * len(dataset.training) + [dataset.validation_name] * len(dataset.validation)
    places = dataset.training.places + dataset.validation.places
    labels = [*dataset.training.labels, *dataset.validation.labels]
    repeated = np.bincount(numbers)[numbers] > 1
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "split", "place", "emotion"])
        for index in sorted(np.flatnonzero(repeated), key=lambda index: int(numbers[index])):
            emotion = EMOTIONS[labels[index]]
            writer.writerow([numbers[index], names[index], places[index], emotion])


def _number_images(dataset: Dataset) -> Numbers:
    images = np.concatenate([dataset.training.images, dataset.validation.images])
    _, numbers = np.unique(images.reshape(len(images), -1), axis=0, return_inverse=True)
    return np.asarray(numbers, np.int64).reshape(-1)


def _occurrences(numbers: Numbers, of: slice, among: slice) -> Numbers:
    """How often each number of one part is among those of another, int64 [N]."""
    counts = np.bincount(numbers[among], minlength=int(numbers.max()) + 1)
    return np.asarray(counts[numbers[of]], np.int64)
