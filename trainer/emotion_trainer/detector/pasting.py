"""Blending one image into another with soft edges."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import Image
from emotion_trainer.detector.faces import Transform

Mask = NDArray[np.float32]

ELLIPSE, ROUNDED, SQUARE = 2.0, 5.0, 40.0
"""Exponents of |x|^p + |y|^p < 1 (superellipses)."""
SHAPES: Final = (ELLIPSE, ROUNDED, SQUARE)
SHAPE_PROBABILITIES: Final = (0.5, 0.25, 0.25)


def placement(
    source: tuple[float, float], scale: float, degrees: float, target: tuple[float, float]
) -> Transform:
    """The similarity transform that moves a point of one image to a point of another.

    Args:
        source: the point, in pixels of the first.
        scale: factor on all lengths.
        degrees: rotation about it, counter-clockwise.
        target: its place in the other image.
    """
    turn = cv2.getRotationMatrix2D(source, degrees, scale)
    turn[:, 2] += np.subtract(target, source)
    return np.asarray(turn, np.float64)


def between_centres(transform: Transform) -> Transform:
    """The same transform for OpenCV, which counts from the centre of the first pixel."""
    linear = transform[:, :2]
    offset = linear @ (0.5, 0.5) + transform[:, 2] - 0.5
    return np.column_stack([linear, offset])


def soft_mask(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    """A mask, float32 [H, W]: 1 inside, 0 at the rim, with a soft or a sharp edge."""
    y = np.abs(np.linspace(-1, 1, shape[0], dtype=np.float32))[:, np.newaxis]
    x = np.abs(np.linspace(-1, 1, shape[1], dtype=np.float32))
    power = np.float32(rng.choice(SHAPES, p=SHAPE_PROBABILITIES))
    radius = (x**power + y**power) ** (1 / power)
    return np.asarray(((1 - radius) / rng.uniform(0.02, 0.35)).clip(0, 1), np.float32)


def paste(canvas: Image, piece: Image, mask: Mask, transform: Transform) -> None:
    """Blend a piece into the canvas, in place.

    Args:
        canvas: grey uint8 [H, W].
        piece: grey uint8 [h, w].
        mask: its opacity, float32 [h, w], 0 to 1.
        transform: from the piece's pixels to the canvas', both counted from the outer corner.
    """
    size = (canvas.shape[1], canvas.shape[0])
    # Sampling a much larger piece would alias.
    shrinkage = float(np.hypot(transform[0, 0], transform[0, 1]))
    if shrinkage < 1:
        piece = np.asarray(cv2.GaussianBlur(piece, (0, 0), 0.5 / shrinkage), np.uint8)
    sampling = between_centres(transform)
    moved = cv2.warpAffine(piece, sampling, size, flags=cv2.INTER_LINEAR)
    share = cv2.warpAffine(mask, sampling, size, flags=cv2.INTER_LINEAR)
    canvas[:] = (canvas + share * (moved.astype(np.float32) - canvas)).astype(np.uint8)
