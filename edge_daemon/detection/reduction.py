"""Fast reduction of pictures for detectors."""

import cv2
import numpy as np

from edge_daemon.records import Image


def reduced(picture: Image, longest_side: int) -> Image:
    """Reduce a picture to this longer side; return one that is no larger unchanged.

    It is halved as often as possible and interpolated for the rest. OpenCV's mean of two by two
    pixels takes a tenth of the time of its mean over a fractional area.

    Args:
        picture: BGR uint8 [H, W, 3] or grey uint8 [H, W].
        longest_side: in pixels.
    """
    height, width = picture.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    while min(width // size[0], height // size[1]) >= 2:
        width, height = width // 2, height // 2
        picture = _resized(picture, (width, height), cv2.INTER_AREA)
    return _resized(picture, size, cv2.INTER_LINEAR)


def _resized(picture: Image, size: tuple[int, int], interpolation: int) -> Image:
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.uint8)
