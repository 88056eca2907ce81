"""What a detector is trained on and measured by."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from emotion_trainer.detector.backgrounds import face_free_parts
from emotion_trainer.detector.crops import load_crops
from emotion_trainer.detector.photos import load_photos
from emotion_trainer.detector.scenes import Material


@dataclass(frozen=True)
class DetectorData:
    """Material to learn from, and other material to validate on."""

    training: Material
    validation: Material
    fingerprint: str


def load_data(photos: Path, crops: Path) -> DetectorData:
    """Read photos, and crops as `label` wrote them.

    Raises:
        DataError: either cannot be read.
    """
    found = load_photos(photos)
    labelled = load_crops(crops)
    kept, held_out = labelled.divided()
    digest = hashlib.sha256((found.fingerprint + labelled.fingerprint).encode())
    return DetectorData(
        Material(found.training, kept, face_free_parts(found.training)),
        Material(found.validation, held_out, face_free_parts(found.validation)),
        digest.hexdigest(),
    )
