"""A drawn face that both detectors find, and scenes and clips made of it: no photo is needed."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

SKIN, HAIR, BROW, SOCKET, EYE, PUPIL, NOSE, NOSTRILS, MOUTH, LIP = (
    185, 50, 50, 110, 235, 25, 205, 130, 90, 170,
)  # fmt: skip

SHAPES = [
    # centre, half axes (fractions of the side), grey, tilt in degrees
    ((0.50, 0.28), (0.360, 0.260), HAIR, 0),
    ((0.50, 0.52), (0.320, 0.420), SKIN, 0),
    ((0.36, 0.42), (0.085, 0.045), SOCKET, 0),
    ((0.64, 0.42), (0.085, 0.045), SOCKET, 0),
    ((0.36, 0.44), (0.060, 0.030), EYE, 0),
    ((0.64, 0.44), (0.060, 0.030), EYE, 0),
    ((0.36, 0.44), (0.028, 0.030), PUPIL, 0),
    ((0.64, 0.44), (0.028, 0.030), PUPIL, 0),
    ((0.36, 0.355), (0.090, 0.018), BROW, -5),
    ((0.64, 0.355), (0.090, 0.018), BROW, 5),
    ((0.50, 0.56), (0.030, 0.120), NOSE, 0),
    ((0.50, 0.655), (0.075, 0.028), NOSTRILS, 0),
    ((0.50, 0.70), (0.200, 0.020), LIP, 0),
    ((0.50, 0.78), (0.130, 0.035), MOUTH, 0),
]


def draw_face(side: int, background: int = 120) -> Image:
    """A frontal face that fills a grey square: uint8 [side, side]."""
    image = np.full((side, side), background, np.uint8)
    for centre, axes, grey, tilt in SHAPES:
        cv2.ellipse(
            image,
            [round(side * value) for value in centre],
            [max(1, round(side * value)) for value in axes],
            tilt,
            0,
            360,
            grey,
            thickness=-1,
            lineType=cv2.LINE_AA,
        )
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.012 * side), np.uint8)


def draw_scene(*faces: tuple[int, int, int], size: tuple[int, int] = (320, 240)) -> Image:
    """A picture with faces at (x, y, side): BGR uint8 [H, W, 3]."""
    scene = np.full((size[1], size[0]), 120, np.uint8)
    for x, y, side in faces:
        scene[y : y + side, x : x + side] = draw_face(side)
    return np.asarray(cv2.cvtColor(scene, cv2.COLOR_GRAY2BGR), np.uint8)


def write_clip(path: Path, scenes: list[Image], fps: float = 10.0, codec: str = "mp4v") -> Path:
    """The scenes as a video file."""
    height, width = scenes[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for scene in scenes:
        writer.write(scene)
    writer.release()
    return path
