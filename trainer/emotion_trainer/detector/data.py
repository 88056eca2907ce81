"""The data that a detector is trained on and measured by."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emotion_trainer.detector.crops import Crops, load_crops
from emotion_trainer.detector.faces import LabelledImage
from emotion_trainer.detector.photos import load_photos
from emotion_trainer.detector.scenes import Material, is_close_up, material_of

CALIBRATION_SCALES: Final = (1.0, 0.6, 0.75, 1.33, 1.6)
"""Photos are evaluated at several sizes: more images, and more kinds of false positives."""


@dataclass(frozen=True)
class DetectorData:
    """Material to train on, and photos for calibration and test.

    Attributes:
        training: the material of scenes.
        calibration: whole photos.
        test: whole photos.
        held_out: tight crops that are not trained on.
        copies: how many photos were left out, as near-copies of photos of another part.
        fingerprint: a digest of everything.
    """

    training: Material
    calibration: Sequence[LabelledImage]
    test: Sequence[LabelledImage]
    held_out: Crops
    copies: int
    fingerprint: str

    def calibration_images(self) -> list[LabelledImage]:
        """The calibration photos at several sizes, without close-ups.

        Small faces in the backgrounds of close-ups lack labels.
        """
        photos = self.calibration
        scenes = [photo for photo in photos if not is_close_up(photo)] or photos
        return [photo.scaled(scale) for scale in CALIBRATION_SCALES for photo in scenes]


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
        found.copies,
        digest.hexdigest(),
    )
