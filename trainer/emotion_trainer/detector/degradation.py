"""What cameras do to a picture: light, blur, noise, lost detail, compression."""

from typing import Final

import cv2
import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector.chance import happens

LEAST_QUALITY: Final = 25


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """A grey picture, uint8 [H, W], as a random camera might have taken it."""
    if happens(0.3, rng):
        image = _coarsened(image, rng)
    if happens(0.35, rng):
        image = _blurred(image, rng)
    if happens(0.7, rng):
        image = _lit(image, rng)
    if happens(0.4, rng):
        noise = rng.normal(0, rng.uniform(2, 14), image.shape)
        image = np.asarray((image + noise).clip(0, 255), np.uint8)
    if happens(0.25, rng):
        image = _compressed(image, rng)
    return image


def _coarsened(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape
    scale = rng.uniform(0.4, 0.9)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


def _blurred(image: Image, rng: np.random.Generator) -> Image:
    """Out of focus, or shaken in one direction."""
    if happens(0.6, rng):
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.8)), np.uint8)
    length = int(rng.integers(3, 8))
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1 / length
    middle = ((length - 1) / 2, (length - 1) / 2)
    turn = cv2.getRotationMatrix2D(middle, rng.uniform(0, 180), 1.0)
    kernel = cv2.warpAffine(line, turn, (length, length))
    return np.asarray(cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-6)), np.uint8)


def _lit(image: Image, rng: np.random.Generator) -> Image:
    """Another exposure, contrast and gamma."""
    levels = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.35))
    levels = 255 * (0.5 + (levels - 0.5) * rng.uniform(0.4, 1.3)) + rng.uniform(-40, 40)
    return np.asarray(cv2.LUT(image, levels.clip(0, 255).astype(np.uint8)), np.uint8)


def _compressed(image: Image, rng: np.random.Generator) -> Image:
    quality = int(rng.integers(LEAST_QUALITY, 90))
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
