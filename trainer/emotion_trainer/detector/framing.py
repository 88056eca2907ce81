"""Where a detector's box sits in the crop that the emotion models know.

Crops of faces are put into frames at known places, and the boxes that are found there measured
in fractions of the crops' sides. The medians are what the daemon needs to cut the same crop.
"""

import math
from typing import Final

import numpy as np

from edge_daemon.detection.manifest import BoxFraming
from edge_daemon.records import Detection, Image
from emotion_trainer.detector import backgrounds
from emotion_trainer.detector.crops import Crops
from emotion_trainer.detector.faces import Floats
from emotion_trainer.detector.pasting import paste, placement
from emotion_trainer.detector.predictions import Finder
from emotion_trainer.errors import ExportError

FRAMES: Final = 1000
SIDE: Final = 160
LEAST_SCORE: Final = 0.5
SMALLEST, LARGEST = 32.0, 100.0
"""Sides of a crop in its frame, in pixels."""
NEAR: Final = 0.3
"""Crop sides between its middle and that of a box that is its face's."""
FEWEST: Final = 50


def measure_framing(find: Finder, crops: Crops) -> BoxFraming:
    """The framing of what `find` finds.

    Raises:
        ExportError: it finds too few of the faces to tell.
    """
    rng = np.random.default_rng(0)
    frames, squares = zip(*(_frame(crops, rng) for _ in range(FRAMES)), strict=True)
    boxes = [
        _in_square(detection, square)
        for found, square in zip(find(frames), squares, strict=True)
        for detection in found
        if detection.score >= LEAST_SCORE and _is_near(detection, square)
    ]
    if len(boxes) < FEWEST:
        raise ExportError(f"only {len(boxes)} of {FRAMES} faces are found; train it further")
    x, y, width, height = (round(float(value), 4) for value in np.median(boxes, axis=0))
    return BoxFraming(x=x, y=y, width=width, height=height)


def _frame(crops: Crops, rng: np.random.Generator) -> tuple[Image, Floats]:
    """A frame with one crop, and the left, top and side of where it is."""
    canvas = backgrounds.pattern(SIDE, rng)
    crop = crops.images[rng.integers(len(crops))]
    side = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
    left, top = rng.uniform(0, SIDE - side, 2)
    transform = placement((0, 0), side / len(crop), 0.0, (left, top))
    paste(canvas, crop, np.ones(crop.shape, np.float32), transform)
    return canvas, np.array([left, top, side], np.float32)


def _is_near(detection: Detection, square: Floats) -> bool:
    left, top, side = map(float, square)
    middle = (left + side / 2, top + side / 2)
    return math.dist(detection.box.centre, middle) < NEAR * side


def _in_square(detection: Detection, square: Floats) -> Floats:
    box = np.array(detection.box, np.float32)
    box[:2] -= square[:2]
    return np.asarray(box / square[2], np.float32)
