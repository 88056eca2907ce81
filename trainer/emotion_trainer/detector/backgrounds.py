"""Backgrounds: parts of photos without faces, and drawn patterns."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector.faces import LabelledImage
from emotion_trainer.detector.sampling import happens, pick

MIN_SIDE: Final = 40
"""Pixels; smaller parts of photos are not used."""
CLEARANCE: Final = 0.35
"""Margin for hair, ears and neck around a face's box, in parts of its side."""


def face_free_parts(photos: Sequence[LabelledImage]) -> list[Image]:
    """The strips above, below, left and right of all faces of each photo, if wide enough."""
    parts = [part for photo in photos for part in _strips(photo)]
    return [part for part in parts if min(part.shape) >= MIN_SIDE]


def _strips(photo: LabelledImage) -> list[Image]:
    image, boxes = photo.image, photo.faces.boxes
    if not len(boxes):
        return [image]
    margin = CLEARANCE * boxes[:, 2:]
    left, top = np.floor((boxes[:, :2] - margin).min(axis=0)).astype(int).clip(0)
    right, bottom = np.ceil((boxes[:, :2] + boxes[:, 2:] + margin).max(axis=0)).astype(int)
    return [image[:top], image[bottom:], image[:, :left], image[:, right:]]


def window(parts: Sequence[Image], side: int, rng: np.random.Generator) -> Image:
    """A random square of a random part, resized to uint8 [side, side] and rotated."""
    part = parts[pick(len(parts), rng)]
    least = min(part.shape)
    cut = int(rng.integers(min(MIN_SIDE, least), least + 1))
    x = int(rng.integers(part.shape[1] - cut + 1))
    y = int(rng.integers(part.shape[0] - cut + 1))
    square = np.rot90(part[y : y + cut, x : x + cut], pick(4, rng))
    shrinks = cut > side
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(square), (side, side), interpolation=how)
    return np.asarray(resized, np.uint8)


def pattern(side: int, rng: np.random.Generator) -> Image:
    """Noise of several scales under rectangles, ellipses and lines: uint8 [side, side]."""
    canvas = np.full((side, side), rng.uniform(20, 235), np.float32)
    for cells in rng.choice((2, 4, 8, 16, 40), rng.integers(1, 4), replace=False):
        cloud = rng.normal(0, rng.uniform(5, 35), (cells, cells)).astype(np.float32)
        how = cv2.INTER_CUBIC if happens(0.7, rng) else cv2.INTER_NEAREST
        canvas += cv2.resize(cloud, (side, side), interpolation=how)
    image = np.asarray(canvas.clip(0, 255), np.uint8)
    for _ in range(rng.integers(0, 12)):
        _draw(image, rng)
    return image


def _draw(image: Image, rng: np.random.Generator) -> None:
    """Draw one shape of random kind, grey level, place and size."""
    side = len(image)
    x, y = (int(value) for value in rng.integers(0, side, 2))
    w, h = (int(value) for value in np.exp(rng.uniform(np.log(3), np.log(side / 2), 2)))
    grey = int(rng.integers(256))
    thickness = -1 if happens(0.6, rng) else int(rng.integers(1, 4))
    match rng.integers(3):
        case 0:
            cv2.rectangle(image, (x, y), (x + w, y + h), grey, thickness)
        case 1:
            angle = float(rng.uniform(0, 180))
            cv2.ellipse(image, (x, y), (w, h), angle, 0, 360, grey, thickness)
        case _:
            cv2.line(image, (x, y), (x + w, y + h), grey, abs(thickness))
