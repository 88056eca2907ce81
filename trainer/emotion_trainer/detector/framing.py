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
from emotion_trainer.detector.faces import Floats
from emotion_trainer.detector.pasting import paste, placement
from emotion_trainer.detector.predictions import Finder
from emotion_trainer.errors import ExportError

FRAMES: Final = 1000
FRAME_SIDE: Final = 160
MIN_SCORE: Final = 0.5
MIN_SIDE, MAX_SIDE = 32.0, 100.0
"""Sides of a crop in its frame, in pixels."""
MAX_DISTANCE: Final = 0.3
"""Between the centres of a crop and of its face's box, in crop sides."""
MIN_FOUND: Final = 50


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
    x, y, width, height = (round(float(value), 4) for value in np.median(boxes, axis=0))
    return Framing(x=x, y=y, width=width, height=height)


def _frame(crops: Crops, rng: np.random.Generator) -> tuple[Image, Floats]:
    """A frame with one crop, and the left, top and side of the crop."""
    canvas = backgrounds.pattern(FRAME_SIDE, rng)
    crop = crops.images[rng.integers(len(crops))]
    side = float(np.exp(rng.uniform(np.log(MIN_SIDE), np.log(MAX_SIDE))))
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
