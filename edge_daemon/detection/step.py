"""The detection step: finds faces, selects them by zone and quality, and crops them."""

import math
from collections.abc import Iterable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_daemon.config.settings import Polygon, QualitySettings, ZoneSettings
from edge_daemon.detection.alignment import crop_square, extract_crop
from edge_daemon.detection.base import Detector
from edge_daemon.records import Detection, Face, FoundFaces, Frame, Image, Landmarks, Unscored


class Zones:
    """Filters detections.

    Args:
        settings: the ignored regions, and the minimum size.
    """

    def __init__(self, settings: ZoneSettings) -> None:
        self._settings = settings

    def apply(self, settings: ZoneSettings) -> None:
        """Use other regions or another minimum size."""
        self._settings = settings

    def filter(self, detections: Iterable[Detection], frame: Frame) -> list[Detection]:
        """The detections that count, which are in pixels of the frame."""
        return [detection for detection in detections if self._counts(detection, frame)]

    def _counts(self, detection: Detection, frame: Frame) -> bool:
        settings, box = self._settings, detection.box
        if frame.reduction * min(box.width, box.height) < settings.min_face:
            return False
        if not settings.ignore:
            return True
        x, y = box.centre
        x, y = x / frame.width, y / frame.height
        return not any(contains(region, x, y) for region in settings.ignore)


def contains(polygon: Polygon, x: float, y: float) -> bool:
    """Whether a point is inside a polygon: a ray to the right crosses an odd number of edges."""
    inside = False
    x1, y1 = polygon[-1]
    for x2, y2 in polygon:
        if (y1 > y) != (y2 > y) and x < x1 + (x2 - x1) * (y - y1) / (y2 - y1):
            inside = not inside
        x1, y1 = x2, y2
    return inside


ROUNDING_NOISE: Final = (4 * 1**2 + 4**2) / 12
"""Variance of the Laplacian (four neighbours minus four times the centre) of rounding errors."""


def unscored_reason(
    side: float, crop: Image, landmarks: Landmarks | None, limits: QualitySettings
) -> Unscored | None:
    """The first reason not to score a face, if there is one.

    Args:
        side: side of the crop in the frame, in pixels.
        crop: grey uint8 [48, 48].
        landmarks: if the detector has them; without them, no face counts as a profile.
        limits: what a face must have to be scored.
    """
    if side < limits.min_face:
        return Unscored.TOO_SMALL
    if sharpness(crop) < limits.min_sharpness:
        return Unscored.TOO_BLURRED
    if landmarks is not None and yaw(landmarks) > limits.max_yaw:
        return Unscored.PROFILE
    return None


def sharpness(crop: Image) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000) relative to the crop's own variance.

    The division removes the influence of light: a dim face is not a blurred one. The variance
    that rounding to whole grey levels causes is subtracted first.
    """
    edges = _variance(cv2.Laplacian(crop, cv2.CV_16S)) - ROUNDING_NOISE
    return max(0.0, edges) / max(_variance(crop), 1.0)


def _variance(image: NDArray[Any]) -> float:
    """NumPy's `var` in a tenth of its time for images of this size."""
    _, deviation = cv2.meanStdDev(image)
    return float(deviation[0, 0]) ** 2


def yaw(landmarks: Landmarks) -> float:
    """Yaw of a head: offset of the nose from the middle of the eyes, in eye distances.

    0 is frontal; near 0.5 the nose is below one eye; a profile is above.
    """
    eyes_and_nose: list[list[float]] = landmarks[:3].tolist()
    (right_x, right_y), (left_x, left_y), (nose_x, nose_y) = eyes_and_nose
    across, down = left_x - right_x, left_y - right_y
    squared = across**2 + down**2
    if squared == 0.0:
        return math.inf
    aside_x, aside_y = nose_x - (right_x + left_x) / 2, nose_y - (right_y + left_y) / 2
    return abs(aside_x * across + aside_y * down) / squared


def resize_to_max_side(image: Image, max_side: int) -> Image:
    """Reduce an image to this longer side; return one that is no larger unchanged.

    It is halved as often as possible and interpolated for the rest. OpenCV's mean of two by two
    pixels takes a tenth of the time of its mean over a fractional area.

    Args:
        image: BGR uint8 [H, W, 3] or grey uint8 [H, W].
        max_side: in pixels.
    """
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    while min(width // size[0], height // size[1]) >= 2:
        width, height = width // 2, height // 2
        image = _resized(image, (width, height), cv2.INTER_AREA)
    return _resized(image, size, cv2.INTER_LINEAR)


def _resized(image: Image, size: tuple[int, int], interpolation: int) -> Image:
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


class FaceFinder:
    """Detects faces in a scaled-down image, and crops them from the full one.

    Args:
        detector: the detector.
        max_side: longer side of the scaled-down image, in pixels.
        limits: what a face must have to be scored.
        zones: which detections count; None: all.
    """

    def __init__(
        self,
        detector: Detector,
        max_side: int,
        limits: QualitySettings,
        zones: Zones | None = None,
    ) -> None:
        self._detector = detector
        self._zones = zones
        self._max_side = max_side
        self._limits = limits

    def apply(self, settings: QualitySettings) -> None:
        """Use other limits."""
        self._limits = settings

    def __call__(self, frame: Frame) -> FoundFaces:
        if frame.is_blank:
            return FoundFaces(frame, ())
        image = self._reduced(frame)
        # The longer side, which rounding changes least.
        scale = max(frame.width, frame.height) / max(image.shape[:2])
        found = [detection.scaled(scale) for detection in self._detector.detect(image)]
        if self._zones is not None:
            found = self._zones.filter(found, frame)
        return FoundFaces(frame, tuple(self.crop(frame, detection) for detection in found))

    def crop(self, frame: Frame, detection: Detection) -> Face:
        """The face at this place in a frame."""
        square = crop_square(detection, self._detector.framing)
        crop = extract_crop(frame.bgr, square)
        return Face(
            detection, crop, unscored_reason(square.side, crop, detection.landmarks, self._limits)
        )

    def _reduced(self, frame: Frame) -> Image:
        if frame.reduced is not None:
            return frame.reduced
        return resize_to_max_side(frame.bgr, self._max_side)
