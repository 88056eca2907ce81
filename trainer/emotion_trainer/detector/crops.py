"""Tight crops of single faces, such as FER2013's, labelled by another detector.

The teacher, another detector, gets each crop enlarged and with a margin, since it misses faces that
fill an image. Crops without a detection of a high score are left out.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.detection import Detector
from edge_daemon.records import Image
from emotion_trainer.detector.faces import Faces, Floats, LabelledImage, faces_from
from emotion_trainer.errors import DataError

ENLARGEMENT: Final = 3
MARGIN: Final = 24
MIN_SCORE: Final = 0.6
HELD_OUT: Final = 10
"""One crop in this many is not trained on."""
ORDER_SEED: Final = 0
# YuNet's boxes are smaller on bare crops than on faces with surroundings (see its framing in the
# daemon). These factors on width and height compensate, measured on FER2013.
WIDENING: Final = (1.083, 1.06)


@dataclass(frozen=True)
class Crops:
    """Labelled crops: uint8 [N, S, S], float32 [N, 4] and float32 [N, 5, 2], in their pixels."""

    images: Image
    boxes: Floats
    landmarks: Floats

    def __len__(self) -> int:
        return len(self.images)

    def labelled_image(self, index: int) -> LabelledImage:
        """The crop at this index and its face."""
        which = slice(index, index + 1)
        faces: Faces = faces_from(self.boxes[which], self.landmarks[which])
        return LabelledImage(self.images[index], faces)

    @property
    def fingerprint(self) -> str:
        """A digest of the images and labels."""
        arrays = (self.images, self.boxes, self.landmarks)
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def divided(self) -> tuple["Crops", "Crops"]:
        """The crops to train on, and the last tenth, which is held out."""
        border = len(self) - len(self) // HELD_OUT
        return self._part(slice(None, border)), self._part(slice(border, None))

    def _part(self, which: slice) -> "Crops":
        return Crops(self.images[which], self.boxes[which], self.landmarks[which])


def label_crops(images: Image, teacher: Detector) -> Crops:
    """Label crops, uint8 [N, S, S], with a detector; leave out those with a low score.

    The order is shuffled: in data sorted by emotion, the last tenth would be of one emotion.

    Raises:
        DataError: the detector finds no face at all.
    """
    found = [_label(image, teacher) for image in images]
    order = np.random.default_rng(ORDER_SEED).permutation(len(images)).tolist()
    kept = [index for index in order if found[index] is not None]
    labels = [label for index in kept if (label := found[index]) is not None]
    if not labels:
        raise DataError("crops: the teacher finds no face in any of them; use images of faces")
    return Crops(
        images[kept],
        np.stack([box for box, _ in labels]),
        np.stack([landmarks for _, landmarks in labels]),
    )


def _label(crop: Image, teacher: Detector) -> tuple[Floats, Floats] | None:
    enlarged = cv2.resize(crop, None, fx=ENLARGEMENT, fy=ENLARGEMENT, interpolation=cv2.INTER_CUBIC)
    padded = cv2.copyMakeBorder(enlarged, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REPLICATE)
    found = teacher.detect(np.asarray(cv2.cvtColor(padded, cv2.COLOR_GRAY2BGR), np.uint8))
    best = max(found, key=lambda detection: detection.score, default=None)
    if best is None or best.score < MIN_SCORE or best.landmarks is None:
        return None
    box = (np.array(best.box, np.float32) - (MARGIN, MARGIN, 0, 0)) / ENLARGEMENT
    centre = box[:2] + box[2:] / 2
    sides = box[2:] * WIDENING
    landmarks = ((best.landmarks - MARGIN) / ENLARGEMENT).astype(np.float32)
    return np.concatenate([centre - sides / 2, sides]).astype(np.float32), landmarks


def save_crops(crops: Crops, path: Path) -> None:
    """Write crops to an `.npz` file."""
    with path.open("wb") as file:
        np.savez(file, **vars(crops))


def load_crops(path: Path) -> Crops:
    """Read crops written by `save_crops`.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            crops = Crops(file["images"], file["boxes"], file["landmarks"])
            _require_layout(crops, set(file.files))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a file of labelled crops: {error}") from error
    return crops


def _require_layout(crops: Crops, names: set[str]) -> None:
    if unknown := names - set(vars(crops)):
        raise ValueError(f"unknown array {min(unknown)}")
    count, side = len(crops), crops.images.shape[-1]
    expected = {"images": (count, side, side), "boxes": (count, 4), "landmarks": (count, 5, 2)}
    for name, shape in expected.items():
        array = getattr(crops, name)
        kind = np.uint8 if name == "images" else np.float32
        if array.shape != shape or array.dtype != kind or not np.isfinite(array).all():
            raise ValueError(f"invalid array {name} (got {array.dtype} {array.shape})")
