"""Training scenes: parts of photos at random scales, mosaics of them, and composed scenes.

Most scenes are parts of photos, so scale, background and pose are those of real images. In composed
scenes, photos of single faces and tight crops are pasted on parts of photos without faces. Decoys
are pasted in the same way, so that pasted edges do not distinguish faces.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import Image
from emotion_trainer.detector import backgrounds
from emotion_trainer.detector.boxes import intersection
from emotion_trainer.detector.crops import Crops
from emotion_trainer.detector.degradation import degrade
from emotion_trainer.detector.faces import Faces, LabelledImage, Transform, concatenate_faces
from emotion_trainer.detector.pasting import between_centres, paste, placement, soft_mask
from emotion_trainer.detector.recipe import SceneSettings
from emotion_trainer.detector.sampling import happens, log_uniform, pick
from emotion_trainer.errors import DataError

MAX_FACES: Final = 6
"""In a composed scene."""
CLOSE_UP: Final = 0.35
"""Share of a photo's longer side; a photo whose faces are all larger is a close-up."""
MAX_ENLARGEMENT: Final = 2.0
"""Of a photo; more only blurs the faces."""
SURROUNDINGS: Final = 0.35
"""Margin around a face in a composed scene, in parts of its box."""
MIN_VISIBLE: Final = 0.5
"""Part of a face inside the scene; faces with less are doubtful."""
MIN_SIZE: Final = 7.0
"""Pixels: smaller faces are doubtful."""
MAX_OVERLAP: Final = 0.1
"""Between faces of a composed scene."""
MAX_REDUCTION: Final = 0.5
MIN_HALVED_SIDE: Final = 4
BLURRED_SCALE: Final = 0.8
PREFILTER_SIGMA: Final = 0.5
"""Reductions to half or less start from a halved image; others below 0.8 from a blurred one."""
FULL_TILT: Final = 0.3
"""Share of scenes with the whole range of tilts; the others use a third of it."""


@dataclass(frozen=True)
class Material:
    """The material of scenes.

    Attributes:
        scenes: photos that show more than single faces, some of them without a face.
        close_ups: photos that are mostly face.
        crops: tight crops of faces.
        parts: face-free parts of photos.
    """

    scenes: Sequence[LabelledImage]
    close_ups: Sequence[LabelledImage]
    crops: Crops
    parts: Sequence[Image]


def material_of(photos: Sequence[LabelledImage], crops: Crops) -> Material:
    """Sort photos into scenes and close-ups, and cut the parts without faces.

    Raises:
        DataError: no photo has a face, or none has a part without.
    """
    close_ups = [photo for photo in photos if is_close_up(photo)]
    scenes = [photo for photo in photos if not is_close_up(photo)]
    with_faces = [photo for photo in photos if len(photo.faces)]
    parts = backgrounds.face_free_parts(photos)
    if not with_faces or not parts:
        what = "with a face" if not with_faces else "with a part without faces"
        raise DataError(f"--photos: no photo {what} to train on; add some")
    return Material(scenes or close_ups, close_ups or with_faces, crops, parts)


def is_close_up(photo: LabelledImage) -> bool:
    """Whether a photo has faces and all of them are large in it."""
    sizes = photo.faces.sizes
    return len(sizes) > 0 and bool((sizes > CLOSE_UP * max(photo.image.shape)).all())


class SceneMaker:
    """Makes scenes; all randomness comes from the generator passed in."""

    def __init__(self, material: Material, settings: SceneSettings) -> None:
        self._material = material
        self._settings = settings
        self._side = settings.side

    def scene(self, rng: np.random.Generator, mined: Sequence[Image] = ()) -> LabelledImage:
        """One scene; an empty one may be one of the mined false positives."""
        kind = rng.random()
        if kind < self._settings.empty:
            return self._empty(rng, mined)
        if kind < self._settings.empty + self._settings.composed:
            canvas, faces = self._composed(rng)
        else:
            canvas, faces = self._mosaic(rng)
        self._hide(canvas, faces, rng)
        if happens(0.5, rng):
            canvas, faces = np.ascontiguousarray(canvas[:, ::-1]), faces.mirrored(self._side)
        return LabelledImage(degrade(canvas, rng), faces)

    def background(self, rng: np.random.Generator) -> Image:
        """A square without a face, with decoys."""
        canvas = self.plain_background(rng)
        for _ in range(rng.integers(0, 3)):
            self._paste_decoy(canvas, rng)
        return canvas

    def plain_background(self, rng: np.random.Generator) -> Image:
        """A square of a photo, or a drawn pattern."""
        if happens(0.8, rng):
            return backgrounds.window(self._material.parts, self._side, rng)
        return backgrounds.pattern(self._side, rng)

    def _empty(self, rng: np.random.Generator, mined: Sequence[Image]) -> LabelledImage:
        if len(mined) and happens(self._settings.mined, rng):
            canvas = np.rot90(mined[pick(len(mined), rng)], 2 * pick(2, rng))
        else:
            canvas = self.background(rng)
        return LabelledImage(degrade(np.ascontiguousarray(canvas), rng), concatenate_faces([]))

    def _mosaic(self, rng: np.random.Generator) -> tuple[Image, Faces]:
        """A part of one photo, or of two to four next to each other."""
        side = self._side
        canvas = np.empty((side, side), np.uint8)
        across, down = side, side
        if happens(self._settings.mosaic, rng):
            across, down = (int(v) for v in rng.integers(side // 4, 3 * side // 4 + 1, 2))
            if happens(0.3, rng):
                across = side
        tiles = []
        for columns in (slice(0, across), slice(across, side)):
            for rows in (slice(0, down), slice(down, side)):
                tile = canvas[rows, columns]
                if tile.size:
                    faces = self._fill(tile, rng)
                    shift = np.array([[1, 0, columns.start], [0, 1, rows.start]], np.float64)
                    tiles.append(faces.moved(shift))
        return canvas, concatenate_faces(tiles)

    def _fill(self, tile: Image, rng: np.random.Generator) -> Faces:
        """Fill a tile with a part of a photo, in place; returns the faces in it."""
        rows, columns = tile.shape
        is_wide = happens(self._settings.wide, rng)
        photos = self._material.scenes if is_wide else self._material.close_ups
        photo = photos[pick(len(photos), rng)]
        sure = np.flatnonzero(~photo.faces.doubtful)
        if len(sure):
            index = int(sure[pick(len(sure), rng)])
            source = _middle(photo.faces, index)
            scale = self._size(photo.faces, index, rng) / float(photo.faces.sizes[index])
        else:
            height, width = photo.image.shape
            source = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
            scale = log_uniform(0.4, 1.6, rng)
        target = self._target(photo, source, scale, (columns, rows), rng)
        transform = placement(source, scale, self._tilt(rng), target)
        if not _covers(photo.image, transform, tile):
            tile[:] = self.plain_background(rng)[:rows, :columns]
        image, sampling = _prefiltered(photo.image, transform, scale)
        cv2.warpAffine(
            image,
            sampling,
            (columns, rows),
            dst=tile,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        return mark_doubtful(photo.faces.moved(transform), (rows, columns))

    def _target(
        self,
        photo: LabelledImage,
        source: tuple[float, float],
        scale: float,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[float, float]:
        """Where a point of a photo goes in a tile, so that the photo covers most of the tile."""
        place = []
        for at, length, span in zip(source, photo.image.shape[::-1], size, strict=True):
            low, high = span - scale * (length - at), scale * at  # the photo's edges at the tile's
            low, high = min(low, high), max(low, high)
            low, high = max(low, 0.1 * span), min(high, 0.9 * span)
            place.append(float(rng.uniform(low, high)) if low < high else float((low + high) / 2))
        return place[0], place[1]

    def _size(self, faces: Faces, index: int, rng: np.random.Generator) -> float:
        """A random size for a face; each octave is equally likely."""
        smallest = self._settings.min_face
        largest = min(self._settings.max_face, MAX_ENLARGEMENT * float(faces.sizes[index]))
        if largest <= smallest:
            return largest
        return log_uniform(smallest, largest, rng)

    def _composed(self, rng: np.random.Generator) -> tuple[Image, Faces]:
        canvas = self.background(rng)
        count = int(rng.integers(1, MAX_FACES + 1))
        largest = self._side * (0.9 if count == 1 else 1.0 / count**0.6)
        placed: list[Faces] = []
        for _ in range(count):
            piece = self._piece(rng)
            degrees = self._tilt(rng)
            size = log_uniform(self._settings.min_face, largest, rng)
            target = tuple(rng.uniform(0.4 * size, self._side - 0.4 * size, 2))
            scale = size / float(piece.faces.sizes[0])
            transform = placement(_middle(piece.faces, 0), scale, degrees, target)
            faces = piece.faces.moved(transform)
            if _overlap(faces, concatenate_faces(placed)) < MAX_OVERLAP:
                paste(canvas, piece.image, soft_mask(piece.image.shape, rng), transform)
                placed.append(faces)
        return canvas, mark_doubtful(concatenate_faces(placed), canvas.shape)

    def _piece(self, rng: np.random.Generator) -> LabelledImage:
        """One face with little around it."""
        if happens(self._settings.crops, rng):
            return self._material.crops.labelled_image(pick(len(self._material.crops), rng))
        photo = self._material.close_ups[pick(len(self._material.close_ups), rng)]
        return close_up(photo, pick(len(photo.faces), rng))

    def _paste_decoy(self, canvas: Image, rng: np.random.Generator) -> None:
        """Paste something without a face: a scrambled one, or a part of another photo."""
        if happens(0.5, rng):
            decoy = scrambled(self._piece(rng).image, rng)
        else:
            decoy = backgrounds.window(self._material.parts, 64, rng)
        size = log_uniform(8.0, 0.6 * self._side, rng)
        target = tuple(rng.uniform(0, self._side, 2))
        middle = (decoy.shape[1] / 2, decoy.shape[0] / 2)
        transform = placement(middle, size / min(decoy.shape), self._tilt(rng), target)
        paste(canvas, decoy, soft_mask(decoy.shape, rng), transform)

    def _hide(self, canvas: Image, faces: Faces, rng: np.random.Generator) -> None:
        """Cover a part of some faces, in place."""
        chosen = (rng.random(len(faces)) < self._settings.hidden) & (faces.sizes > 2 * MIN_SIZE)
        for index in np.flatnonzero(chosen & ~faces.doubtful):
            self._cover(canvas, faces, int(index), rng)

    def _cover(self, canvas: Image, faces: Faces, index: int, rng: np.random.Generator) -> None:
        """Paste over a part of one face, in place."""
        x, y, w, h = faces.boxes[index]
        patch = backgrounds.window(self._material.parts, 48, rng)
        middle = (x + w * rng.uniform(0, 1), y + h * rng.uniform(0, 1))
        scale = float(faces.sizes[index]) * rng.uniform(0.3, 0.7) / 48
        transform = placement((24, 24), scale, rng.uniform(0, 360), middle)
        paste(canvas, patch, soft_mask(patch.shape, rng), transform)

    def _tilt(self, rng: np.random.Generator) -> float:
        """Degrees; most heads are nearly upright."""
        limit = self._settings.tilt * (1.0 if happens(FULL_TILT, rng) else 0.3)
        return float(rng.uniform(-limit, limit))


def mark_doubtful(faces: Faces, shape: tuple[int, ...]) -> Faces:
    """Faces in an image [H, W] of this shape; too small or cut ones are doubtful."""
    image = np.array([[0, 0, shape[1], shape[0]]], np.float32)
    visible = intersection(faces.boxes, image)[:, 0] / faces.boxes[:, 2:].prod(axis=1)
    doubtful = faces.doubtful | (visible < MIN_VISIBLE) | (faces.sizes < MIN_SIZE)
    return replace(faces, doubtful=doubtful).chosen(visible > 0)


def close_up(photo: LabelledImage, index: int) -> LabelledImage:
    """One face of a photo, with a little around it."""
    x, y, w, h = photo.faces.boxes[index]
    low = np.floor([x - SURROUNDINGS * w, y - SURROUNDINGS * h]).astype(int).clip(0)
    high = np.ceil([x + (1 + SURROUNDINGS) * w, y + (1 + SURROUNDINGS) * h]).astype(int)
    shift = np.array([[1, 0, -low[0]], [0, 1, -low[1]]], np.float64)
    image = photo.image[low[1] : high[1], low[0] : high[0]]
    only = np.arange(len(photo.faces)) == index
    return LabelledImage(image, photo.faces.chosen(only).moved(shift))


def scrambled(image: Image, rng: np.random.Generator) -> Image:
    """The image's ninths in another order: a face's texture without a face."""
    square = cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA)
    tiles = square.reshape(3, 16, 3, 16).transpose(0, 2, 1, 3).reshape(9, 16, 16)
    # The permutation is a single cycle, so no tile keeps its place.
    cycle = rng.permutation(9)
    whole = np.empty_like(tiles)
    whole[cycle] = tiles[np.roll(cycle, 1)]
    return np.asarray(whole.reshape(3, 3, 16, 16).transpose(0, 2, 1, 3).reshape(48, 48), np.uint8)


def _prefiltered(
    image: Image, transform: Transform, scale: float
) -> tuple[Image, NDArray[np.float64]]:
    """Halve an image as often as the scale allows, so that sampling does not alias.

    Returns the image, and the transform in OpenCV's coordinates, where 0 is the centre of the first
    pixel. In the transform that is passed in, 0 is the outer edge of the first pixel.
    """
    matrix, shift = transform[:, :2].copy(), transform[:, 2]
    while scale <= MAX_REDUCTION and min(image.shape) >= MIN_HALVED_SIDE:
        size = (image.shape[1] // 2, image.shape[0] // 2)
        matrix *= np.divide(image.shape[::-1], size)  # a little more than 2 for odd sides
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        scale *= 2.0
    if scale < BLURRED_SCALE:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), PREFILTER_SIGMA), np.uint8)
    return image, between_centres(np.column_stack([matrix, shift]))


def _covers(image: Image, transform: Transform, tile: Image) -> bool:
    """Whether the moved image covers the whole tile."""
    rows, columns = tile.shape
    back = cv2.invertAffineTransform(transform)
    corners = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]], np.float64)
    seen = corners @ back[:, :2].T + back[:, 2]
    return bool(((seen >= 0) & (seen <= image.shape[::-1])).all())


def _middle(faces: Faces, index: int) -> tuple[float, float]:
    x, y, w, h = map(float, faces.boxes[index])
    return x + w / 2, y + h / 2


def _overlap(face: Faces, others: Faces) -> float:
    """The largest overlap coefficient: the shared area over that of the smaller face."""
    if not len(others):
        return 0.0
    areas = np.minimum(face.sizes**2, others.sizes**2)
    return float((intersection(face.boxes, others.boxes)[0] / areas).max())
