"""What every form of data set is loaded into."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import CROP_SIDE
from emotion_trainer.data.unreadable import Unreadable

TRAINING: Final = "Training"
PUBLIC_TEST: Final = "PublicTest"

VOTES: Final = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "nf",
)
"""What the ten annotators of FER+ could choose from, in its column order (Barsoum et al. 2016)."""


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        images: uint8 [N, 48, 48], grey.
        labels: int64 [N], indices into `EMOTIONS`.
        votes: uint8 [N, 10], FER+ votes in the order of `VOTES`; all zero where there are none.
        places: where each face is in the files, for people to find it; empty if in none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.uint8]
    places: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def no_faces() -> NDArray[np.uint8]:
    """An empty set of faces, uint8 [0, 48, 48]."""
    return np.zeros((0, CROP_SIDE, CROP_SIDE), np.uint8)


@dataclass(frozen=True)
class Dataset:
    """What to learn from and what to validate on.

    Attributes:
        training: FER2013's Training, or what stands for it.
        validation: FER2013's PublicTest, or what stands for it.
        validation_name: what figures on the validation split call it.
        unreadable: what was left out of both.
        unlabelled: uint8 [M, 48, 48], faces to learn from by soft labels alone.
    """

    training: Split
    validation: Split
    validation_name: str = PUBLIC_TEST
    unreadable: Unreadable = field(default_factory=Unreadable)
    unlabelled: NDArray[np.uint8] = field(default_factory=no_faces)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the arrays of both splits: the same data in another form has the same."""
        digest = hashlib.sha256()
        for split in (self.training, self.validation):
            for array in (split.images, split.labels, split.votes):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def unlabelled_fingerprint(self) -> str | None:
        """`faces_fingerprint` of the unlabelled faces; None without any."""
        return faces_fingerprint(self.unlabelled) if len(self.unlabelled) else None


def faces_fingerprint(faces: NDArray[np.uint8]) -> str:
    """SHA-256 over faces, uint8 [N, 48, 48], in their order, without labels."""
    return hashlib.sha256(np.ascontiguousarray(faces).tobytes()).hexdigest()
