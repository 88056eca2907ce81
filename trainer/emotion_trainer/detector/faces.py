"""Labelled faces of an image: boxes and landmarks, which move with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.records import MIRRORED_LANDMARKS, Detection, Image

LANDMARKS = 5

Floats = NDArray[np.float32]
Transform = NDArray[np.float64]

Finder = Callable[[Sequence[Image]], list[list[Detection]]]
"""From grey images of one size, uint8 [H, W] each, to the faces in each."""


@dataclass(frozen=True)
class Faces:
    """The faces of an image, in its pixels.

    Attributes:
        boxes: float32 [N, 4]: left, top, width, height.
        landmarks: float32 [N, 5, 2]: right eye, left eye, nose, right and left corner of the
            mouth; NaN where unknown.
        doubtful: bool [N]: whether a face counts neither as a face nor as background.
    """

    boxes: Floats
    landmarks: Floats
    doubtful: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def sizes(self) -> Floats:
        """float32 [N]: the square roots of the boxes' areas."""
        return np.asarray(np.sqrt(self.boxes[:, 2] * self.boxes[:, 3]), np.float32)

    def chosen(self, which: NDArray[np.bool_]) -> "Faces":
        """The faces selected by a mask, bool [N]."""
        return Faces(self.boxes[which], self.landmarks[which], self.doubtful[which])

    def moved(self, transform: Transform) -> "Faces":
        """The faces after a similarity transform of the image, float64 [2, 3].

        A box stays upright: its centre moves, its sides grow by the transform's scale.
        """
        matrix = transform[:, :2].astype(np.float32)
        shift = transform[:, 2].astype(np.float32)
        scale = float(np.sqrt(abs(np.linalg.det(matrix))))
        centres = (self.boxes[:, :2] + self.boxes[:, 2:] / 2) @ matrix.T + shift
        sides = self.boxes[:, 2:] * np.float32(scale)
        boxes = np.concatenate([centres - sides / 2, sides], axis=1)
        return replace(self, boxes=boxes, landmarks=self.landmarks @ matrix.T + shift)

    def mirrored(self, width: int) -> "Faces":
        """The faces of the mirrored image, which is `width` pixels wide."""
        boxes = self.boxes.copy()
        boxes[:, 0] = width - boxes[:, 0] - boxes[:, 2]
        # The mirrored right eye is a left eye.
        landmarks = self.landmarks[:, MIRRORED_LANDMARKS].copy()
        landmarks[..., 0] = width - landmarks[..., 0]
        return replace(self, boxes=boxes, landmarks=landmarks)


def faces_from(boxes: Floats, landmarks: Floats | None = None) -> Faces:
    """Faces that are not doubtful: boxes [N, 4], landmarks [N, 5, 2], unknown if None."""
    count = len(boxes)
    if landmarks is None:
        landmarks = np.full((count, LANDMARKS, 2), np.nan, np.float32)
    return Faces(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(landmarks, np.float32).reshape(-1, LANDMARKS, 2),
        np.zeros(count, np.bool_),
    )


def concatenate_faces(parts: list[Faces]) -> Faces:
    """The faces of all parts of one image; none of no parts."""
    if not parts:
        return faces_from(np.zeros((0, 4), np.float32))
    return Faces(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
        np.concatenate([part.doubtful for part in parts]),
    )


@dataclass(frozen=True)
class LabelledImage:
    """A grey image, uint8 [H, W], and its faces."""

    image: Image
    faces: Faces

    def scaled(self, scale: float) -> "LabelledImage":
        """The image and its faces, enlarged or reduced."""
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(self.image, None, fx=scale, fy=scale, interpolation=how)
        return LabelledImage(np.asarray(image, np.uint8), self.faces.moved(scale * np.eye(2, 3)))
