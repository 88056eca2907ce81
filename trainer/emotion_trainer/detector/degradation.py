"""Degradation as by cameras: light, blur, noise, low resolution, compression."""

from typing import Final

import cv2
import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector.sampling import happens

MIN_QUALITY: Final = 25


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """Degrade a grey image, uint8 [H, W], at random."""
    if happens(0.2, rng):
        image = _downscaled(image, rng)
    if happens(0.2, rng):
        image = _blurred(image, rng)
    if happens(0.5, rng):
        image = _lit(image, rng)
    if happens(0.06, rng):
        image = _darkened(image, rng)
    if happens(0.2, rng):
        image = _noisy(image, rng)
    if happens(0.25, rng):
        image = _compressed(image, rng)
    return image


def _downscaled(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape
    scale = rng.uniform(0.5, 0.95)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


def _blurred(image: Image, rng: np.random.Generator) -> Image:
    """Defocus, or motion blur in one direction."""
    if happens(0.6, rng):
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4)), np.uint8)
    length = int(rng.integers(3, 6))
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1 / length
    middle = ((length - 1) / 2, (length - 1) / 2)
    turn = cv2.getRotationMatrix2D(middle, rng.uniform(0, 180), 1.0)
    kernel = cv2.warpAffine(line, turn, (length, length))
    return np.asarray(cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-6)), np.uint8)


def _lit(image: Image, rng: np.random.Generator) -> Image:
    """Change exposure, contrast and gamma."""
    levels = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.35))
    levels = 255 * (0.5 + (levels - 0.5) * rng.uniform(0.5, 1.3)) + rng.uniform(-35, 35)
    return np.asarray(cv2.LUT(image, levels.clip(0, 255).astype(np.uint8)), np.uint8)


def _darkened(image: Image, rng: np.random.Generator) -> Image:
    """Low light: few grey levels, near black."""
    levels = np.arange(256) * rng.uniform(0.12, 0.5) + rng.uniform(0, 12)
    return np.asarray(cv2.LUT(image, levels.clip(0, 255).astype(np.uint8)), np.uint8)


def _noisy(image: Image, rng: np.random.Generator) -> Image:
    noise = np.empty(image.shape, np.int16)
    # NumPy's generator takes five times as long as OpenCV's.
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(noise, np.zeros(1), np.full(1, rng.uniform(2, 12)))
    return np.asarray((image + noise).clip(0, 255), np.uint8)


def _compressed(image: Image, rng: np.random.Generator) -> Image:
    quality = int(rng.integers(MIN_QUALITY, 90))
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
