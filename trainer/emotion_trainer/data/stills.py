"""The faces of a single picture, found and cropped as the daemon does with its usual settings."""

from datetime import UTC, datetime

from edge_daemon.config.settings import DetectionSettings, QualitySettings
from edge_daemon.detection import Detector
from edge_daemon.detection.step import FaceFinder
from edge_daemon.records import Face, Frame, Image


class StillFaces:
    """Finds the faces with which the daemon would start a track."""

    def __init__(self, detector: Detector) -> None:
        self._find = FaceFinder(detector, DetectionSettings().max_side, QualitySettings())
        self._least_score = detector.start_score

    def __call__(self, bgr: Image) -> list[Face]:
        """The faces in a BGR uint8 [H, W, 3] picture; also those that would not be scored."""
        frame = Frame(
            index=0,
            scene=0,
            bgr=bgr,
            captured_at=datetime.now(UTC),
            captured_monotonic=0.0,
            stream_time=0.0,
        )
        found = self._find(frame).faces
        return [face for face in found if face.detection.score >= self._least_score]
