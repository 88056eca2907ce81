"""From a detector's box to the 48x48 grey crop that the models were trained on."""

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.detection.base import Framing
from edge_daemon.records import CROP_SIDE, Detection, Image, Landmarks

Transform = NDArray[np.float64]
"""float64 [2, 3]: from the frame to the crop; rotation, one scale and a shift.

Both are measured in pixels from the outer corner, so that a picture W wide spans 0 to W.
"""

OVERSAMPLING: Final = 8
"""Crops are shrunk from at most this many times their side."""

MARGIN: Final = 2
"""Pixels around a crop that interpolation may look at."""


def crop_side(detection: Detection, framing: Framing) -> float:
    """Side of the square in the frame, in pixels, that becomes the crop."""
    _, _, width, height = detection.box
    return math.sqrt(width / framing.width * height / framing.height)


def crop_transform(detection: Detection, framing: Framing) -> Transform:
    """How to move the face into the crop: size and place by the box, upright by the eyes."""
    side = crop_side(detection, framing)
    scale = CROP_SIDE / side
    angle = 0.0 if detection.landmarks is None else roll(detection.landmarks)
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    # The box's centre goes to where the framing has it, and the face turns about this point.
    centre_x, centre_y = detection.box.centre
    target_x = CROP_SIDE * (framing.x + framing.width / 2)
    target_y = CROP_SIDE * (framing.y + framing.height / 2)
    return np.array(
        [
            [cosine, sine, target_x - cosine * centre_x - sine * centre_y],
            [-sine, cosine, target_y + sine * centre_x - cosine * centre_y],
        ]
    )


def roll(landmarks: Landmarks) -> float:
    """The angle by which a head is tilted in the picture, in radians; clockwise is positive."""
    right_eye, left_eye = landmarks[0], landmarks[1]
    return math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])


def cut_crop(picture: Image, transform: Transform) -> Image:
    """The crop, grey uint8 [48, 48], from a frame, whose edge pixels go on beyond it.

    Args:
        picture: the frame, BGR uint8 [H, W, 3] or grey uint8 [H, W]; only what the crop shows is
            converted to grey.
        transform: from the frame to the crop.
    """
    picture, transform = _surroundings(picture, transform)
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    scale = math.hypot(transform[0, 0], transform[0, 1])
    # Shrinking by sampling alone would alias: sample finely, then average.
    factor = min(OVERSAMPLING, max(1, math.ceil(1 / scale)))
    fine = cv2.warpAffine(
        grey,
        _between_pixel_centres(factor * transform),
        (factor * CROP_SIDE, factor * CROP_SIDE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    crop = cv2.resize(fine, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def _surroundings(picture: Image, transform: Transform) -> tuple[Image, Transform]:
    """The part of a frame that the crop shows, and how to move that part into the crop."""
    (cosine, sine, x), (_, _, y) = transform.tolist()
    squared = cosine**2 + sine**2  # of the scale
    right, down = CROP_SIDE / 2 - x, CROP_SIDE / 2 - y
    reach = CROP_SIDE / 2 * (abs(cosine) + abs(sine)) / squared + MARGIN
    height, width = picture.shape[:2]
    columns = _span((cosine * right - sine * down) / squared, reach, width)
    rows = _span((sine * right + cosine * down) / squared, reach, height)
    moved = transform.copy()
    moved[:, 2] += transform[:, :2] @ (columns.start, rows.start)
    return picture[rows, columns], moved


def _span(centre: float, reach: float, size: int) -> slice:
    """What lies within reach of a centre; where all of that is beyond an edge, the edge's pixel."""
    first = min(max(0, math.floor(centre - reach)), size - 1)
    return slice(first, min(size, max(first + 1, math.ceil(centre + reach))))


def _between_pixel_centres(transform: Transform) -> Transform:
    """The same transform for OpenCV, which counts from the centre of the first pixel."""
    shifted = transform.copy()
    shifted[:, 2] += transform[:, :2] @ (0.5, 0.5) - 0.5
    return shifted
