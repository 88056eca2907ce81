"""Augmentation: random changes to training faces, such as those that a camera causes.

One affine transform applies all geometric changes of a face, so interpolation blurs it only once.
"""

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import CROP_SIDE
from emotion_trainer.recipe import Augmentation

Image = NDArray[np.float32]
CENTRE: Final = (CROP_SIDE - 1) / 2
MIN_PATCH: Final = 0.02
MIRRORED: Final = 0.5
"""The share of faces that are mirrored."""


def augment(
    images: NDArray[np.uint8], settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Change each face in its own way.

    Args:
        images: uint8 [N, 48, 48].
        settings: the bounds of the changes.
        rng: draws them.

    Returns:
        The faces, float32 [N, 48, 48, 1], 0 to 255.
    """
    mirrored = rng.random(len(images)) < MIRRORED
    changed = np.empty((*images.shape, 1), np.float32)
    for index, image in enumerate(images.astype(np.float32)):
        face = _warp(image, settings, rng, is_mirrored=bool(mirrored[index]))
        for step in (_downscale, _relight, _erase):
            face = step(face, settings, rng)
        changed[index, ..., 0] = face
    return changed


def _warp(
    image: Image, settings: Augmentation, rng: np.random.Generator, *, is_mirrored: bool
) -> Image:
    """Mirror, rotate, zoom, stretch and shift."""
    angle = math.radians(rng.uniform(-settings.rotation, settings.rotation))
    zoom = _factor(settings.zoom, rng)
    width = zoom * _factor(settings.stretch, rng) * (-1.0 if is_mirrored else 1.0)
    linear = np.array(
        [
            [math.cos(angle) * width, -math.sin(angle) * zoom],
            [math.sin(angle) * width, math.cos(angle) * zoom],
        ]
    )
    shift = rng.uniform(-settings.shift, settings.shift, 2) * CROP_SIDE
    offset = CENTRE + shift - linear @ (CENTRE, CENTRE)
    matrix = np.column_stack([linear, offset])
    return cv2.warpAffine(
        image,
        matrix,
        (CROP_SIDE, CROP_SIDE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float32, copy=False)


def _downscale(image: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    """Scale down and up again: a face far from the camera has as little detail."""
    if rng.random() >= settings.downscale_probability:
        return image
    side = int(rng.integers(settings.min_downscaled_side, CROP_SIDE, endpoint=True))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_LINEAR)
    return large.astype(np.float32, copy=False)


def _relight(image: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    """Change contrast around the face's mean, and brightness."""
    mean = float(image.mean())
    contrast = _factor(settings.contrast, rng)
    brightness = rng.uniform(-settings.brightness, settings.brightness)
    offset = mean + brightness - contrast * mean
    relit: Image = np.clip(image * np.float32(contrast) + np.float32(offset), 0.0, 255.0)
    return relit


def _erase(image: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    """Cover a patch with one grey level: random erasing (Zhong et al. 2020)."""
    if rng.random() >= settings.erasing_probability:
        return image
    area = rng.uniform(MIN_PATCH, settings.max_erased_area) * CROP_SIDE**2
    aspect = _factor(2.0, rng)
    height = min(CROP_SIDE, round(math.sqrt(area * aspect)))
    width = min(CROP_SIDE, round(math.sqrt(area / aspect)))
    top = int(rng.integers(0, CROP_SIDE - height, endpoint=True))
    left = int(rng.integers(0, CROP_SIDE - width, endpoint=True))
    image[top : top + height, left : left + width] = rng.uniform(0.0, 255.0)
    return image


def _factor(limit: float, rng: np.random.Generator) -> float:
    """A factor between `1 / limit` and `limit`, as often below 1 as above."""
    return math.exp(rng.uniform(-1.0, 1.0) * math.log(limit))
