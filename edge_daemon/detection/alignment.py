"""From a detector's box to the 48x48 grey crop that the models were trained on.

Places are in pixels from the frame's outer corner, so that a picture W wide spans 0 to W.
"""

import math
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.detection.base import Framing
from edge_daemon.records import CROP_SIDE, Detection, Image, Landmarks

OVERSAMPLING: Final = 8
"""Crops are shrunk from at most this many times their side."""

MARGIN: Final = 2
"""Pixels around a crop that interpolation may look at."""


class Square(NamedTuple):
    """A square in the frame, upright with the face in it, that becomes the crop."""

    x: float
    """Of its centre."""
    y: float
    side: float
    roll: float
    """By how much it is turned about its centre, in radians; clockwise is positive."""


def crop_square(detection: Detection, framing: Framing) -> Square:
    """The square around a face: size and place by the box, upright by the eyes."""
    _, _, width, height = detection.box
    side = math.sqrt(width / framing.width * height / framing.height)
    tilt = 0.0 if detection.landmarks is None else roll(detection.landmarks)
    # The box's centre is where the framing has it, and the face turns about this point.
    x, y = detection.box.centre
    right = side * (0.5 - framing.x - framing.width / 2)
    down = side * (0.5 - framing.y - framing.height / 2)
    cosine, sine = math.cos(tilt), math.sin(tilt)
    return Square(x + cosine * right - sine * down, y + sine * right + cosine * down, side, tilt)


def roll(landmarks: Landmarks) -> float:
    """The angle by which a head is tilted in the picture, in radians; clockwise is positive."""
    (right_x, right_y), (left_x, left_y) = landmarks[:2].tolist()
    return math.atan2(left_y - right_y, left_x - right_x)


def cut_crop(picture: Image, square: Square) -> Image:
    """The crop, grey uint8 [48, 48], from a frame, whose edge pixels go on beyond it.

    Args:
        picture: the frame, BGR uint8 [H, W, 3] or grey uint8 [H, W]; only what the crop shows is
            converted to grey.
        square: what it shows.
    """
    picture, square = _surroundings(picture, square)
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    # Shrinking by sampling alone would alias: sample finely, then average.
    factor = min(OVERSAMPLING, max(1, math.ceil(square.side / CROP_SIDE)))
    fine = cv2.warpAffine(
        grey,
        _transform(square, factor * CROP_SIDE),
        (factor * CROP_SIDE, factor * CROP_SIDE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    crop = cv2.resize(fine, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def _surroundings(picture: Image, square: Square) -> tuple[Image, Square]:
    """The part of a frame that the crop shows, and where the square is in it."""
    extent = abs(math.cos(square.roll)) + abs(math.sin(square.roll))
    reach = square.side / 2 * extent + MARGIN
    height, width = picture.shape[:2]
    columns, rows = _span(square.x, reach, width), _span(square.y, reach, height)
    moved = square._replace(x=square.x - columns.start, y=square.y - rows.start)
    return picture[rows, columns], moved


def _span(centre: float, reach: float, size: int) -> slice:
    """What lies within reach of a centre; where all of that is beyond an edge, the edge's pixel."""
    first = min(max(0, math.floor(centre - reach)), size - 1)
    return slice(first, min(size, max(first + 1, math.ceil(centre + reach))))


def _transform(square: Square, side: int) -> NDArray[np.float64]:
    """How OpenCV moves the square into a picture of this side: float64 [2, 3].

    OpenCV counts from the centre of the first pixel, on either side.
    """
    scale = side / square.side
    cosine, sine = scale * math.cos(square.roll), scale * math.sin(square.roll)
    x, y, centre = square.x - 0.5, square.y - 0.5, side / 2 - 0.5
    return np.array(
        [
            [cosine, sine, centre - cosine * x - sine * y],
            [-sine, cosine, centre + sine * x - cosine * y],
        ]
    )
