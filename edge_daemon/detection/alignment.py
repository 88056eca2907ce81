"""From a detector's box to the 48x48 grey crop that the models were trained on.

Coordinates are in pixels from the frame's outer corner: an image of width W spans 0 to W.
"""

import math
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.detection.base import Framing
from edge_daemon.records import CROP_SIDE, Detection, Image, Landmarks

OVERSAMPLING: Final = 8
"""Crops are reduced from at most this many times their side."""

MARGIN: Final = 2
"""Pixels around a crop that interpolation may read."""


class Square(NamedTuple):
    """A square in the frame, upright with the face in it, that becomes the crop."""

    x: float
    """Of its centre, in pixels."""
    y: float
    """Of its centre, in pixels."""
    side: float
    """In pixels."""
    roll: float
    """Rotation about its centre in radians; clockwise is positive."""


def crop_square(detection: Detection, framing: Framing) -> Square:
    """The square around a face: size and position from the box, rotation from the eyes."""
    _, _, width, height = detection.box
    side = math.sqrt(width / framing.width * height / framing.height)
    tilt = 0.0 if detection.landmarks is None else roll(detection.landmarks)
    # The framing gives the offset of the box's centre, about which the face rotates.
    x, y = detection.box.centre
    right = side * (0.5 - framing.x - framing.width / 2)
    down = side * (0.5 - framing.y - framing.height / 2)
    cosine, sine = math.cos(tilt), math.sin(tilt)
    return Square(x + cosine * right - sine * down, y + sine * right + cosine * down, side, tilt)


def roll(landmarks: Landmarks) -> float:
    """Rotation of a head in the image in radians; clockwise is positive."""
    (right_x, right_y), (left_x, left_y) = landmarks[:2].tolist()
    return math.atan2(left_y - right_y, left_x - right_x)


def extract_crop(image: Image, square: Square, side: int = CROP_SIDE) -> Image:
    """Cut the crop, grey uint8 [side, side], from a frame; its edge pixels continue beyond it.

    Args:
        image: the frame, BGR uint8 [H, W, 3] or grey uint8 [H, W]; only the part in the crop
            is converted to grey.
        square: the part of the frame in the crop.
        side: of the crop in pixels.
    """
    image, square = _surroundings(image, square)
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    # Sampling alone would alias: sample finely, then average.
    factor = min(OVERSAMPLING, max(1, math.ceil(square.side / side)))
    fine = cv2.warpAffine(
        grey,
        _transform(square, factor * side),
        (factor * side, factor * side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    crop = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def _surroundings(image: Image, square: Square) -> tuple[Image, Square]:
    """The part of a frame in the crop, and the square in this part."""
    extent = abs(math.cos(square.roll)) + abs(math.sin(square.roll))
    reach = square.side / 2 * extent + MARGIN
    height, width = image.shape[:2]
    columns, rows = _span(square.x, reach, width), _span(square.y, reach, height)
    moved = square._replace(x=square.x - columns.start, y=square.y - rows.start)
    return image[rows, columns], moved


def _span(centre: float, reach: float, size: int) -> slice:
    """The pixels within reach of a centre; at least the nearest one of the frame."""
    first = min(max(0, math.floor(centre - reach)), size - 1)
    return slice(first, min(size, max(first + 1, math.ceil(centre + reach))))


def _transform(square: Square, side: int) -> NDArray[np.float64]:
    """OpenCV's transform of the square to an image of this side: float64 [2, 3].

    OpenCV counts from the centre of the first pixel, in both images.
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
