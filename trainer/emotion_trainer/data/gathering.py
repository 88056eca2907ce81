"""Collection of single faces into a `Dataset`."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import CROP_SIDE
from emotion_trainer.data.dataset import VOTES, Dataset, Split
from emotion_trainer.data.splitting import STRATIFIED_NAME, Splitting, stratified
from emotion_trainer.data.unreadable import Faults
from emotion_trainer.errors import DataError


class Gatherer:
    """Collects a data set, one face at a time.

    Args:
        source: the data set's file or folder.
        training: the name of the split to train on.
        validation: the name of the split to validate on.
    """

    def __init__(self, source: Path, training: str, validation: str) -> None:
        self._source = source
        self._faults = Faults(source)
        self._training = training
        self._validation = validation
        self._splits = {training: _SplitBuilder(), validation: _SplitBuilder()}

    def skipping(self) -> AbstractContextManager[None]:
        """A context in which a face that cannot be read is recorded and skipped."""
        return self._faults.skipping()

    def add(
        self,
        split: str,
        place: str,
        image: NDArray[np.uint8],
        label: int,
        votes: list[int] | None = None,
    ) -> None:
        """Add a face: uint8 [48, 48], its label, and its FER+ votes if it has any."""
        self._splits[split].add(place, image, label, votes or [0] * len(VOTES))

    def build(self, splitting: Splitting) -> Dataset:
        """The data set. A stratified one is made of the training split alone.

        Raises:
            DataError: too much could not be read, a split is empty or too small, or has no face of
                some emotion.
        """
        unreadable = self._faults.settle(sum(map(len, self._splits.values())))
        training = self._split(self._training)
        if splitting is Splitting.STRATIFIED:
            training, validation = stratified(training, self._source)
            name = STRATIFIED_NAME
        else:
            validation, name = self._split(self._validation), self._validation
        self._require_emotions(training, self._training)
        self._require_emotions(validation, name)
        return Dataset(training, validation, name, unreadable)

    def _require_emotions(self, split: Split, name: str) -> None:
        """Refuse a split without faces of an emotion.

        A model does not learn that emotion, or its recall and its share cannot be measured.
        """
        if split.absent:
            absent = ", ".join(split.absent)
            raise DataError(f"{self._source}: no face of {absent} in the split {name}; add some")

    def _split(self, name: str) -> Split:
        if not len(self._splits[name]):
            raise DataError(f"{self._source}: has no image of the split {name}")
        return self._splits[name].build()


class _SplitBuilder:
    def __init__(self) -> None:
        self._places: list[str] = []
        self._images: list[NDArray[np.uint8]] = []
        self._labels: list[int] = []
        self._votes: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, place: str, image: NDArray[np.uint8], label: int, votes: list[int]) -> None:
        self._places.append(place)
        self._images.append(image)
        self._labels.append(label)
        self._votes.append(votes)

    def build(self) -> Split:
        return Split(
            images=np.stack(self._images).reshape(-1, CROP_SIDE, CROP_SIDE),
            labels=np.array(self._labels, np.int64),
            votes=np.array(self._votes, np.uint8),
            places=tuple(self._places),
        )
