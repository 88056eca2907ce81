"""Position of a detector's box in the crop that the emotion models are trained on.

Crops of faces are pasted into frames at known places. The boxes found there are measured in
fractions of the crop's side. From the medians the daemon cuts the same crop.
"""

import math
from typing import Final

import numpy as np

from edge_daemon.detection import Framing
from edge_daemon.records import Detection, Image
from emotion_trainer.detector import backgrounds
from emotion_trainer.detector.crops import Crops
from emotion_trainer.detector.faces import Finder, Floats
from emotion_trainer.detector.pasting import paste, placement
from emotion_trainer.detector.sampling import log_uniform
from emotion_trainer.errors import ExportError

FRAMES: Final = 1000
FRAME_SIDE: Final = 160
MIN_SCORE: Final = 0.5
MIN_SIDE, MAX_SIDE = 32.0, 100.0
"""Sides of a crop in its frame, in pixels."""
MAX_DISTANCE: Final = 0.3
"""Between the centres of a crop and of its face's box, in crop sides."""
MIN_FOUND: Final = 50
CROP_SCALE: Final = 0.96
"""The daemon's crops have this share of the true side: boxes err, and a crop that is too large
costs more accuracy than one that is too small (2.2 points at 1, 1.6 at 0.94, 2.3 at 0.9)."""


def measure_framing(find: Finder, crops: Crops) -> Framing:
    """The framing of a detector's boxes.

    Raises:
        ExportError: it finds too few of the faces.
    """
    rng = np.random.default_rng(0)
    frames, squares = zip(*(_frame(crops, rng) for _ in range(FRAMES)), strict=True)
    boxes = [
        _in_square(detection, square)
        for found, square in zip(find(frames), squares, strict=True)
        for detection in found
        if detection.score >= MIN_SCORE and _is_near(detection, square)
    ]
    if len(boxes) < MIN_FOUND:
        raise ExportError(
            f"framing: too few faces are found (got {len(boxes)} of {FRAMES}); train further"
        )
    return _smaller_crop(*map(float, np.median(boxes, axis=0)))


def _smaller_crop(x: float, y: float, width: float, height: float) -> Framing:
    """The framing in a crop with the same centre that has `CROP_SCALE` of the side."""
    place = (0.5 + (x - 0.5) / CROP_SCALE, 0.5 + (y - 0.5) / CROP_SCALE)
    size = (width / CROP_SCALE, height / CROP_SCALE)
    x, y, width, height = (round(value, 4) for value in (*place, *size))
    return Framing(x=x, y=y, width=width, height=height)


def _frame(crops: Crops, rng: np.random.Generator) -> tuple[Image, Floats]:
    """A frame with one crop, and the left, top and side of the crop."""
    canvas = backgrounds.pattern(FRAME_SIDE, rng)
    crop = crops.images[rng.integers(len(crops))]
    side = log_uniform(MIN_SIDE, MAX_SIDE, rng)
    left, top = rng.uniform(0, FRAME_SIDE - side, 2)
    transform = placement((0, 0), side / len(crop), 0.0, (left, top))
    paste(canvas, crop, np.ones(crop.shape, np.float32), transform)
    return canvas, np.array([left, top, side], np.float32)


def _is_near(detection: Detection, square: Floats) -> bool:
    left, top, side = map(float, square)
    middle = (left + side / 2, top + side / 2)
    return math.dist(detection.box.centre, middle) < MAX_DISTANCE * side


def _in_square(detection: Detection, square: Floats) -> Floats:
    box = np.array(detection.box, np.float32)
    box[:2] -= square[:2]
    return np.asarray(box / square[2], np.float32)
