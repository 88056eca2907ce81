"""Training scenes, composed anew each time: what photos of single faces do not teach of scale.

A scene is a photo, moved and turned; or a background with faces pasted into it; or one without a
face. Decoys are pasted just as faces are, so that a seam alone is no sign of a face.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector import backgrounds
from emotion_trainer.detector.chance import happens, pick
from emotion_trainer.detector.crops import Crops
from emotion_trainer.detector.degradation import degrade
from emotion_trainer.detector.faces import Faces, Picture, together
from emotion_trainer.detector.pasting import paste, placement, soft_mask
from emotion_trainer.detector.recipe import SceneSettings

MOST_FACES: Final = 6
WIDE: Final = 0.5
"""Of scenes that are a photo, those of a photo with surroundings."""
WIDE_FACE: Final = 0.45
"""Of a photo's longer side: smaller faces have surroundings."""
SURROUNDINGS: Final = 0.35
"""How much of a photo around a face comes with it, in parts of the box."""
LEAST_SEEN: Final = 0.55
"""The part of a face that must lie within the scene to be asked for."""
LEAST_SIZE: Final = 8.0
"""Pixels: smaller faces may be found or not."""
OVERLAP: Final = 0.1


@dataclass(frozen=True)
class Material:
    """What scenes are made of."""

    photos: Sequence[Picture]
    crops: Crops
    parts: Sequence[Image]
    """Face-free parts of photos."""

    @cached_property
    def wide(self) -> Sequence[Picture]:
        """The photos that show more than a face, rarer than close-ups and worth more."""
        return [photo for photo in self.photos if is_wide(photo)] or self.photos


class SceneMaker:
    """Makes scenes; all chance comes from the generator that it is given."""

    def __init__(self, material: Material, settings: SceneSettings) -> None:
        self._material = material
        self._settings = settings
        self._side = settings.side

    def scene(self, rng: np.random.Generator, mined: Sequence[Image] = ()) -> Picture:
        """One scene; empty ones may be taken from those that the network took for faces."""
        kind = rng.random()
        if kind < self._settings.empty:
            return self._empty(rng, mined)
        if kind < self._settings.empty + self._settings.photos:
            canvas, faces = self._photo(rng)
        else:
            canvas, faces = self._pasted(rng)
        faces = self._hide(canvas, faces, rng)
        if happens(0.5, rng):
            canvas, faces = np.ascontiguousarray(canvas[:, ::-1]), faces.mirrored(self._side)
        return Picture(degrade(canvas, rng), self._judged(faces))

    def background(self, rng: np.random.Generator) -> Image:
        """A square without a face, with decoys."""
        canvas = self.plain_background(rng)
        for _ in range(rng.integers(0, 3)):
            self._paste_decoy(canvas, rng)
        return canvas

    def plain_background(self, rng: np.random.Generator) -> Image:
        """A square of a photo, or drawn."""
        if happens(0.7, rng):
            return backgrounds.window(self._material.parts, self._side, rng)
        return backgrounds.pattern(self._side, rng)

    def _empty(self, rng: np.random.Generator, mined: Sequence[Image]) -> Picture:
        if len(mined) and happens(self._settings.mined, rng):
            canvas = np.rot90(mined[pick(len(mined), rng)], 2 * pick(2, rng))
        else:
            canvas = self.background(rng)
        return Picture(degrade(np.ascontiguousarray(canvas), rng), together([]))

    def _photo(self, rng: np.random.Generator) -> tuple[Image, Faces]:
        """A photo so scaled that one of its faces has a random size, on a background."""
        photos = self._material.wide if happens(WIDE, rng) else self._material.photos
        photo = photos[pick(len(photos), rng)]
        canvas = self.background(rng)
        if not len(photo.faces):
            return canvas, together([])
        index = pick(len(photo.faces), rng)
        size = self._size(1.1 * self._side, rng)
        degrees = self._tilt(rng)
        margin = 0.3 * min(size, self._side)
        target = rng.uniform(margin, self._side - margin, 2)
        scale = size / float(photo.faces.sizes[index])
        transform = placement(_middle(photo.faces, index), scale, degrees, tuple(target))
        whole = np.ones(photo.image.shape, np.float32)
        paste(canvas, photo.image, whole, transform)
        return canvas, photo.faces.moved(transform, degrees)

    def _pasted(self, rng: np.random.Generator) -> tuple[Image, Faces]:
        canvas = self.background(rng)
        count = int(rng.integers(1, MOST_FACES + 1))
        largest = self._side * (0.9 if count == 1 else 1.1 / count**0.6)
        placed: list[Faces] = []
        for _ in range(count):
            piece = self._piece(rng)
            degrees, size = self._tilt(rng), self._size(largest, rng)
            target = tuple(rng.uniform(0.4 * size, self._side - 0.4 * size, 2))
            scale = size / float(piece.faces.sizes[0])
            transform = placement(_middle(piece.faces, 0), scale, degrees, target)
            faces = piece.faces.moved(transform, degrees)
            if _overlap(faces, together(placed)) < OVERLAP:
                paste(canvas, piece.image, soft_mask(piece.image.shape, rng), transform)
                placed.append(faces)
        return canvas, together(placed)

    def _piece(self, rng: np.random.Generator) -> Picture:
        """One face with little around it."""
        if happens(self._settings.crops, rng):
            return self._material.crops.picture(pick(len(self._material.crops), rng))
        while True:
            photo = self._material.photos[pick(len(self._material.photos), rng)]
            if len(photo.faces):
                return close_up(photo, pick(len(photo.faces), rng))

    def _paste_decoy(self, canvas: Image, rng: np.random.Generator) -> None:
        """Something without a face: scrambled, or from elsewhere."""
        if happens(0.5, rng):
            image = self._piece(rng).image
            decoy = scrambled(image, rng)
        else:
            decoy = backgrounds.window(self._material.parts, 64, rng)
        size = self._size(0.6 * self._side, rng)
        target = tuple(rng.uniform(0, self._side, 2))
        middle = (decoy.shape[1] / 2, decoy.shape[0] / 2)
        transform = placement(middle, size / min(decoy.shape), self._tilt(rng), target)
        paste(canvas, decoy, soft_mask(decoy.shape, rng), transform)

    def _hide(self, canvas: Image, faces: Faces, rng: np.random.Generator) -> Faces:
        """Put something over a part of some faces."""
        covered = faces.covered.copy()
        for index in np.flatnonzero(rng.random(len(faces)) < self._settings.hidden):
            covered[index] += self._cover(canvas, faces, int(index), rng)
        return Faces(faces.boxes, faces.landmarks, faces.doubtful, covered, faces.tilt)

    def _cover(self, canvas: Image, faces: Faces, index: int, rng: np.random.Generator) -> float:
        """Paste over one face; returns the part of its box that is hidden."""
        x, y, w, h = faces.boxes[index]
        patch = backgrounds.window(self._material.parts, 48, rng)
        middle = (x + w * rng.uniform(0, 1), y + h * rng.uniform(0, 1))
        scale = float(faces.sizes[index]) * rng.uniform(0.3, 0.75) / 48
        transform = placement((24, 24), scale, rng.uniform(0, 360), middle)
        share = paste(canvas, patch, soft_mask(patch.shape, rng), transform)
        left, top, right, bottom = np.array([x, y, x + w, y + h]).round().astype(int).clip(0)
        hidden = share[top:bottom, left:right]
        return float(hidden.mean()) if hidden.size else 0.0

    def _judged(self, faces: Faces) -> Faces:
        """Doubtful are those that are too small, or too far out of the scene."""
        low = faces.boxes[:, :2]
        high = low + faces.boxes[:, 2:]
        within = (np.minimum(high, self._side) - np.maximum(low, 0)).clip(0)
        seen = within.prod(axis=1) / faces.boxes[:, 2:].prod(axis=1)
        doubtful = faces.doubtful | (seen < LEAST_SEEN) | (faces.sizes < LEAST_SIZE)
        judged = Faces(faces.boxes, faces.landmarks, doubtful, faces.covered, faces.tilt)
        return judged.chosen(seen > 0)

    def _size(self, largest: float, rng: np.random.Generator) -> float:
        smallest = self._settings.smallest
        return float(np.exp(rng.uniform(np.log(smallest), np.log(max(largest, smallest)))))

    def _tilt(self, rng: np.random.Generator) -> float:
        """Most heads are nearly upright."""
        most = self._settings.tilt
        return float(rng.uniform(-most, most) * (1.0 if happens(0.4, rng) else 0.3))


def is_wide(photo: Picture) -> bool:
    """Whether all faces of a photo, if any, are small in it."""
    return bool((photo.faces.sizes < WIDE_FACE * max(photo.image.shape)).all())


def close_up(photo: Picture, index: int) -> Picture:
    """One face of a photo, with a little around it."""
    x, y, w, h = photo.faces.boxes[index]
    low = np.floor([x - SURROUNDINGS * w, y - SURROUNDINGS * h]).astype(int).clip(0)
    high = np.ceil([x + (1 + SURROUNDINGS) * w, y + (1 + SURROUNDINGS) * h]).astype(int)
    shift = np.array([[1, 0, -low[0]], [0, 1, -low[1]]], np.float64)
    image = photo.image[low[1] : high[1], low[0] : high[0]]
    only = np.arange(len(photo.faces)) == index
    return Picture(image, photo.faces.chosen(only).moved(shift))


def scrambled(image: Image, rng: np.random.Generator) -> Image:
    """The picture's ninths in another order: a face's texture without a face."""
    square = cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA)
    tiles = square.reshape(3, 16, 3, 16).transpose(0, 2, 1, 3).reshape(9, 16, 16)
    # No tile stays where it was, as the permutation is a single cycle.
    cycle = rng.permutation(9)
    whole = np.empty_like(tiles)
    whole[cycle] = tiles[np.roll(cycle, 1)]
    return np.asarray(whole.reshape(3, 3, 16, 16).transpose(0, 2, 1, 3).reshape(48, 48), np.uint8)


def _middle(faces: Faces, index: int) -> tuple[float, float]:
    x, y, w, h = map(float, faces.boxes[index])
    return x + w / 2, y + h / 2


def _overlap(face: Faces, others: Faces) -> float:
    """The largest part of either that the other covers."""
    if not len(others):
        return 0.0
    low = np.maximum(face.boxes[:, :2], others.boxes[:, :2])
    high = np.minimum(
        face.boxes[:, :2] + face.boxes[:, 2:], others.boxes[:, :2] + others.boxes[:, 2:]
    )
    shared = (high - low).clip(0).prod(axis=1)
    areas = np.minimum(face.sizes**2, others.sizes**2)
    return float((shared / areas).max())
