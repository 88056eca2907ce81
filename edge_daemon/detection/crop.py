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


def cut_crop(grey: Image, transform: Transform) -> Image:
    """The crop, grey uint8 [48, 48], from a grey frame, whose edge pixels go on beyond it."""
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


def _between_pixel_centres(transform: Transform) -> Transform:
    """The same transform for OpenCV, which counts from the centre of the first pixel."""
    shifted = transform.copy()
    shifted[:, 2] += transform[:, :2] @ (0.5, 0.5) - 0.5
    return shifted
