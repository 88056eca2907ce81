"""Detects the faces of a frame, and crops them."""

from edge_daemon.config.settings import QualitySettings
from edge_daemon.detection.alignment import crop_square, cut_crop
from edge_daemon.detection.base import Detector
from edge_daemon.detection.quality import judge
from edge_daemon.detection.reduction import reduced
from edge_daemon.detection.zones import Zones
from edge_daemon.records import Detection, Face, FoundFaces, Frame, Image


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
        if frame.blank:
            return FoundFaces(frame, ())
        picture = self._reduced(frame)
        scale = frame.width / picture.shape[1]
        found = [detection.enlarged(scale) for detection in self._detector.detect(picture)]
        if self._zones is not None:
            found = self._zones.counted(found, frame)
        return FoundFaces(frame, tuple(self.cut(frame, detection) for detection in found))

    def cut(self, frame: Frame, detection: Detection) -> Face:
        """The face at this place in a frame."""
        square = crop_square(detection, self._detector.framing)
        crop = cut_crop(frame.bgr, square)
        return Face(detection, crop, judge(square.side, crop, detection.landmarks, self._limits))

    def _reduced(self, frame: Frame) -> Image:
        if frame.reduced is not None:
            return frame.reduced
        return reduced(frame.bgr, self._max_side)
