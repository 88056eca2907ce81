"""The detection step: from a frame to its faces, each with its crop."""

from edge_daemon.detection.alignment import crop_square, cut_crop
from edge_daemon.detection.base import Detector
from edge_daemon.detection.quality import QualityLimits, judge
from edge_daemon.detection.reduction import reduced
from edge_daemon.records import Detection, Face, FoundFaces, Frame, Image


class FaceFinder:
    """Looks for faces in a reduced picture and cuts their crops from the full one.

    Args:
        detector: what finds them.
        max_side: the longer side of the picture that the detector gets, in pixels.
        limits: what a face must have to be scored.
    """

    def __init__(self, detector: Detector, max_side: int, limits: QualityLimits) -> None:
        self._detector = detector
        self._max_side = max_side
        self._limits = limits

    def adjust(self, limits: QualityLimits) -> None:
        """Take over other limits."""
        self._limits = limits

    def __call__(self, frame: Frame) -> FoundFaces:
        if frame.blank:
            return FoundFaces(frame, ())
        picture = self._reduced(frame)
        scale = frame.width / picture.shape[1]
        found = (detection.enlarged(scale) for detection in self._detector.detect(picture))
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
