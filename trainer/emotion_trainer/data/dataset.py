"""What every form of data set is loaded into."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.emotions import EMOTIONS
from edge_daemon.records import CROP_SIDE
from emotion_trainer.errors import DataError

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
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """The official splits: Training to learn from, PublicTest to validate on."""

    training: Split
    validation: Split

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the arrays of both splits: the same data in another form has the same."""
        digest = hashlib.sha256()
        for split in (self.training, self.validation):
            for array in (split.images, split.labels, split.votes):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class SplitBuilder:
    """Gathers a split's rows, one at a time."""

    def __init__(self) -> None:
        self._images: list[NDArray[np.uint8]] = []
        self._labels: list[int] = []
        self._votes: list[list[int]] = []

    def add(self, image: NDArray[np.uint8], label: int, votes: list[int] | None = None) -> None:
        """Add a face: uint8 [48, 48], its label, and its FER+ votes if it has any."""
        self._images.append(image)
        self._labels.append(label)
        self._votes.append(votes or [0] * len(VOTES))

    def build(self, name: str, source: object) -> Split:
        """The split as arrays.

        Raises:
            DataError: no row was added.
        """
        if not self._labels:
            raise DataError(f"{source}: has no row of the split {name}")
        return Split(
            images=np.stack(self._images).reshape(-1, CROP_SIDE, CROP_SIDE),
            labels=np.array(self._labels, np.int64),
            votes=np.array(self._votes, np.uint8),
        )


def parse_emotion(text: str, where: str) -> int:
    """A label's official code, 0 to 6, which is its index in `EMOTIONS`.

    Raises:
        DataError: it is no such code; `where` names the row.
    """
    code = parse_integer(text, where, "emotion")
    if not 0 <= code < len(EMOTIONS):
        raise DataError(f"{where}: emotion {code} is out of range, 0 to {len(EMOTIONS) - 1}")
    return code


def parse_integer(text: str, where: str, column: str) -> int:
    """A whole number from a cell.

    Raises:
        DataError: it is none; `where` and `column` name the cell.
    """
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{where}: {column} is {text!r}, not a whole number") from None
