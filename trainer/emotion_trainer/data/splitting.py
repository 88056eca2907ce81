"""Which faces to validate on: FER2013's own choice, or one in five."""

from enum import StrEnum
from typing import Final

import numpy as np
from sklearn.model_selection import train_test_split

from emotion_trainer.data.dataset import Split, part_of
from emotion_trainer.errors import DataError

VALIDATION_SHARE: Final = 0.2
SEED: Final = 0
STRATIFIED_NAME: Final = "20 % of Training"


class Splitting(StrEnum):
    """The division of a data set into training and validation."""

    OFFICIAL = "official"
    STRATIFIED = "stratified"


def stratified(split: Split, source: object) -> tuple[Split, Split]:
    """Split into four fifths to train on and a fifth to validate on, stratified by emotion.

    The same data are always split in the same way; the faces keep their order.

    Raises:
        DataError: an emotion has too few faces for that.
    """
    try:
        kept, held_back = train_test_split(
            np.arange(len(split)),
            test_size=VALIDATION_SHARE,
            random_state=SEED,
            stratify=split.labels,
        )
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{source}: has too few faces to split: {reason}") from error
    return part_of(split, kept), part_of(split, held_back)
