"""A data set in memory, whatever its form on disk."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import CROP_SIDE, EMOTIONS
from emotion_trainer.data.unreadable import Unreadable

TRAINING: Final = "Training"
PUBLIC_TEST: Final = "PublicTest"
SAMPLE_SEED: Final = 0

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
"""Choices of FER+'s ten annotators, in its column order (Barsoum et al. 2016)."""


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        images: uint8 [N, 48, 48], grey.
        labels: int64 [N], indices into `EMOTIONS`.
        votes: uint8 [N, 10], FER+ votes in the order of `VOTES`; all zero where there are none.
        places: the row or file of each face; empty if it comes from no file.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.uint8]
    places: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def absent(self) -> tuple[str, ...]:
        """The emotions that no face is labelled with."""
        return tuple(name for code, name in enumerate(EMOTIONS) if code not in self.labels)


def no_faces() -> NDArray[np.uint8]:
    """An empty set of faces, uint8 [0, 48, 48]."""
    return np.zeros((0, CROP_SIDE, CROP_SIDE), np.uint8)


@dataclass(frozen=True)
class Sample:
    """Which faces of a larger set are used.

    Attributes:
        whole_sha256: `faces_fingerprint` of that set.
        indices: int64 [N], of the faces in that set, ascending.
    """

    whole_sha256: str
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Faces to train on and faces to validate on.

    Attributes:
        training: FER2013's Training, or its counterpart.
        validation: FER2013's PublicTest, or its counterpart.
        validation_name: the validation split's name in figures.
        unreadable: faces left out of both.
        unlabelled: uint8 [M, 48, 48], faces to train on by soft labels alone.
        source: the file or folder that it was loaded from; empty if from none.
        training_sample: which of all training faces `limited` chose; None: it chose none.
        unlabelled_sample: likewise, of the unlabelled faces.
    """

    training: Split
    validation: Split
    validation_name: str = PUBLIC_TEST
    unreadable: Unreadable = field(default_factory=Unreadable)
    unlabelled: NDArray[np.uint8] = field(default_factory=no_faces)
    source: str = ""
    training_sample: Sample | None = None
    unlabelled_sample: Sample | None = None

    def limited(self, faces: int) -> "Dataset":
        """At most `faces` of each split and of the unlabelled faces, always the same ones."""
        training, validation, unlabelled = (
            _sampled(len(whole), faces)
            for whole in (self.training, self.validation, self.unlabelled)
        )
        return replace(
            self,
            training=part_of(self.training, training),
            validation=part_of(self.validation, validation),
            unlabelled=self.unlabelled[unlabelled],
            training_sample=Sample(faces_fingerprint(self.training.images), training),
            unlabelled_sample=Sample(faces_fingerprint(self.unlabelled), unlabelled),
        )

    def without_unlabelled(self) -> "Dataset":
        """This data set without its unlabelled faces."""
        return replace(self, unlabelled=no_faces(), unlabelled_sample=None)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the faces, labels and votes of both splits, in their order.

        The same data in another form have another fingerprint if votes or order differ.
        """
        digest = hashlib.sha256()
        for split in (self.training, self.validation):
            for array in (split.images, split.labels, split.votes):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def unlabelled_fingerprint(self) -> str | None:
        """`faces_fingerprint` of the unlabelled faces; None without any."""
        return faces_fingerprint(self.unlabelled) if len(self.unlabelled) else None


def part_of(split: Split, chosen: NDArray[np.int64]) -> Split:
    """The faces at these indices, in the order of the split."""
    order = np.sort(chosen)
    return Split(
        images=split.images[order],
        labels=split.labels[order],
        votes=split.votes[order],
        places=tuple(split.places[index] for index in order) if split.places else (),
    )


def _sampled(count: int, limit: int) -> NDArray[np.int64]:
    """Indices of at most `limit` of `count` faces, ascending."""
    order = np.random.default_rng(SAMPLE_SEED).permutation(count)
    return np.sort(order[:limit]).astype(np.int64)


def faces_fingerprint(faces: NDArray[np.uint8]) -> str:
    """SHA-256 over faces, uint8 [N, 48, 48], in their order, without labels."""
    return hashlib.sha256(np.ascontiguousarray(faces).tobytes()).hexdigest()
