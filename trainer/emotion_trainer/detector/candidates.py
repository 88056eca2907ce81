"""What a search finds in training photos, as the patches that a verifier learns from.

The photos have a new size each time, since each size has its own false positives. Most sizes are
near those of camera frames: what is enlarged is not sharp. Faces that the search misses are added.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from edge_daemon.detection.bundled import MAX_EVIDENCE, PATCH_SIDE, cut_patch
from edge_daemon.detection.decoding import GEOMETRY, SCORE_EPSILON
from edge_daemon.records import Box, Image
from emotion_trainer.detector.boxes import iou
from emotion_trainer.detector.degradation import degrade
from emotion_trainer.detector.faces import Finder, Floats, LabelledImage
from emotion_trainer.detector.photos import MAX_SIDE
from emotion_trainer.detector.sampling import happens, log_uniform
from emotion_trainer.detector.scenes import is_close_up

SCENE_SCALES: Final = (0.35, 1.7)
CLOSE_UP_SCALES: Final = (0.08, 1.0)
"""Factors on the sides of photos."""
MIN_FACE: Final = 8.0
"""Root of the area, in pixels, from which a face counts."""
DEGRADED_SHARE: Final = 0.2
"""Of the photos: their light, sharpness or noise changes."""
MIN_IMAGE_SIDE: Final = 32
MAX_CANDIDATES: Final = 14
"""In one photo, of its best."""
MIN_FACE_IOU: Final = 0.4
MAX_BACKGROUND_IOU: Final = 0.2
"""Intersections over union with a face from which a candidate is that face, and up to which it is
background; those in between are neither."""
MAX_DOUBTFUL_IOU: Final = 0.15
"""Likewise, with a doubtful face, up to which a candidate is background."""
MIN_CLOSE_UP_SHARE: Final = 0.25
"""Of the largest face's size: the smaller candidates in a close-up can be faces without labels."""
MOVED: Final = 0.06
RESIZED: Final = 0.08
"""Standard deviations by which a candidate's box is moved, in its sides, and resized."""


@dataclass(frozen=True)
class Candidates:
    """Patches with their targets.

    Attributes:
        patches: uint8 [N, PATCH_SIDE, PATCH_SIDE].
        scores: float32 [N]: those of the search; 0 for faces that it missed.
        is_face: bool [N].
        geometry: float32 [N, GEOMETRY], as the verifier shall output it; NaN where unknown.
    """

    patches: Image
    scores: Floats
    is_face: NDArray[np.bool_]
    geometry: Floats

    def __len__(self) -> int:
        return len(self.patches)


def collect(find: Finder, photos: Sequence[LabelledImage], rng: np.random.Generator) -> Candidates:
    """The candidates of a search in photos, each at a random size, mirrored half the time.

    Args:
        find: the search.
        photos: with their labels.
        rng: all randomness comes from it.
    """
    return _together([_collect(find, _varied(photo, rng), rng) for photo in photos])


def candidates_in(find: Finder, photos: Sequence[LabelledImage]) -> Candidates:
    """The candidates of a search in photos as they are, without the faces that it misses."""
    return _together([_patches(photo, *_counted(find, photo)) for photo in photos])


def verified_precision(candidates: Candidates, evidence: Floats) -> float:
    """The average precision of the candidates' scores after the verifier's evidence was added.

    Args:
        candidates: of which some are faces.
        evidence: float32 [N] or [N, 1], in log-odds, with its weight.
    """
    scores = candidates.scores.clip(SCORE_EPSILON, 1 - SCORE_EPSILON)
    verified = np.log(scores / (1 - scores)) + evidence.ravel().clip(-MAX_EVIDENCE, MAX_EVIDENCE)
    return float(average_precision_score(candidates.is_face, verified))


def match(boxes: Floats, photo: LabelledImage) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which face each box [N, 4] is, -1 for none, and whether it is background.

    Neither holds for a box that is close to a face, or near one that is doubtful.
    """
    faces = photo.faces
    if not len(faces):
        return np.full(len(boxes), -1), np.ones(len(boxes), np.bool_)
    ious = iou(boxes, faces.boxes)
    sure = np.where(faces.doubtful, 0.0, ious)
    owner = np.where(sure.max(axis=1) >= MIN_FACE_IOU, sure.argmax(axis=1), -1)
    near = (sure.max(axis=1) > MAX_BACKGROUND_IOU) | (
        np.where(faces.doubtful, ious, 0.0).max(axis=1) > MAX_DOUBTFUL_IOU
    )
    near |= _centred_in(boxes, faces.boxes[faces.doubtful])
    if is_close_up(photo):
        near |= boxes[:, 2] < MIN_CLOSE_UP_SHARE * faces.sizes.max()
    return owner, (owner < 0) & ~near


def encode_geometry(box: Box, face_box: Floats, landmarks: Floats) -> Floats:
    """A face's place in the patch of a box, float32 [GEOMETRY]; the inverse of `decode_geometry`.

    Args:
        box: that the patch is cut for.
        face_box: float32 [4], left, top, width, height.
        landmarks: float32 [5, 2]; NaN where unknown.
    """
    unit, centre = max(box.width, box.height), np.array(box.centre, np.float32)
    place = (face_box[:2] + face_box[2:] / 2 - centre) / unit
    sides = np.log(face_box[2:] / unit)
    return np.concatenate([place, sides, ((landmarks - centre) / unit).ravel()]).astype(np.float32)


def _varied(photo: LabelledImage, rng: np.random.Generator) -> LabelledImage:
    """The photo at a random size, mirrored half the time, sometimes degraded as by cameras."""
    scaled = photo.scaled(_scale(photo, rng))
    image, faces = scaled.image, scaled.faces
    if happens(0.5, rng):
        image, faces = np.ascontiguousarray(image[:, ::-1]), faces.mirrored(image.shape[1])
    # Faces that became too small to be seen count neither way.
    doubtful = faces.doubtful | (faces.sizes < MIN_FACE)
    if happens(DEGRADED_SHARE, rng):
        image = degrade(image, rng)
    return LabelledImage(image, replace(faces, doubtful=doubtful))


def _scale(photo: LabelledImage, rng: np.random.Generator) -> float:
    """A factor on a photo's sides."""
    scale = log_uniform(*(CLOSE_UP_SCALES if is_close_up(photo) else SCENE_SCALES), rng)
    height, width = photo.image.shape
    shorter, longer = min(height, width), max(height, width)
    return float(max(MIN_IMAGE_SIDE / shorter, min(scale, MAX_SIDE / longer)))


def _collect(find: Finder, photo: LabelledImage, rng: np.random.Generator) -> Candidates:
    boxes, scores, owner = _counted(find, photo)
    missed = np.setdiff1d(np.flatnonzero(~photo.faces.doubtful), owner)
    boxes = np.concatenate([boxes, photo.faces.boxes[missed]])
    scores = np.concatenate([scores, np.zeros(len(missed), np.float32)])
    moved = boxes.copy()
    sides = boxes[:, 2:]
    moved[:, 2:] *= np.exp(rng.normal(0, RESIZED, (len(boxes), 1)))
    moved[:, :2] += (sides - moved[:, 2:]) / 2 + sides * rng.normal(0, MOVED, (len(boxes), 2))
    return _patches(photo, moved, scores, np.concatenate([owner, missed]))


def _counted(find: Finder, photo: LabelledImage) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """The candidates in a photo that are a face or background.

    Returns:
        Boxes [N, 4], scores [N], and the index of the face [N], -1 for background.
    """
    found = find([photo.image])[0][:MAX_CANDIDATES]
    boxes = np.array([detection.box for detection in found], np.float32).reshape(-1, 4)
    scores = np.array([detection.score for detection in found], np.float32)
    owner, is_background = match(boxes, photo)
    counted = (owner >= 0) | is_background
    return boxes[counted], scores[counted], owner[counted]


def _patches(
    photo: LabelledImage, boxes: Floats, scores: Floats, owner: NDArray[np.int64]
) -> Candidates:
    geometry = np.full((len(boxes), GEOMETRY), np.nan, np.float32)
    patches = np.empty((len(boxes), PATCH_SIDE, PATCH_SIDE), np.uint8)
    for index, (values, face) in enumerate(zip(boxes.tolist(), owner.tolist(), strict=True)):
        box = Box(*values)
        patches[index] = cut_patch(photo.image, box)
        if face >= 0:
            box_and_landmarks = photo.faces.boxes[face], photo.faces.landmarks[face]
            geometry[index] = encode_geometry(box, *box_and_landmarks)
    return Candidates(patches, scores, owner >= 0, geometry)


def _centred_in(boxes: Floats, others: Floats) -> NDArray[np.bool_]:
    """Whether the centre of each box [N, 4] lies in one of the others [M, 4]."""
    centres = (boxes[:, :2] + boxes[:, 2:] / 2)[:, np.newaxis]
    inside = np.all((centres > others[:, :2]) & (centres < others[:, :2] + others[:, 2:]), axis=2)
    return np.asarray(np.any(inside, axis=1), np.bool_)


def _together(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([part.patches for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.is_face for part in parts]),
        np.concatenate([part.geometry for part in parts]),
    )
