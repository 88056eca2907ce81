"""The data that a detector is trained on and measured by."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emotion_trainer.detector.crops import Crops, load_crops
from emotion_trainer.detector.faces import LabelledImage
from emotion_trainer.detector.photos import load_photos
from emotion_trainer.detector.scenes import Material, material_of


@dataclass(frozen=True)
class DetectorData:
    """Material to train on, and photos for calibration and test.

    Attributes:
        training: the material of scenes.
        calibration: whole photos.
        test: whole photos.
        held_out: tight crops that are not trained on.
        fingerprint: a digest of everything.
    """

    training: Material
    calibration: Sequence[LabelledImage]
    test: Sequence[LabelledImage]
    held_out: Crops
    fingerprint: str


def load_data(photos: Sequence[Path], crops: Path) -> DetectorData:
    """Read folders of photos, and crops as `label` wrote them.

    Raises:
        DataError: one cannot be read.
    """
    found = load_photos(photos)
    labelled = load_crops(crops)
    kept, held_out = labelled.divided()
    digest = hashlib.sha256((found.fingerprint + labelled.fingerprint).encode())
    return DetectorData(
        material_of(found.training, kept),
        found.calibration,
        found.test,
        held_out,
        digest.hexdigest(),
    )
