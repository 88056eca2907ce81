"""The detection step: detects faces in some frames, and predicts their positions in the others.

Detection takes most of a frame's time, and a face moves little from one frame to the next. In
between, each face is cropped at its track's predicted position; if one of them fails the
appearance check, faces are detected at once.
"""

from functools import partial

from edge_daemon.detection.step import FaceFinder
from edge_daemon.records import Frame, TrackedFaces
from edge_daemon.tracking.tracker import Tracker


class FaceFollower:
    """Detects and tracks the faces of a frame.

    Args:
        finder: detects faces.
        tracker: assigns them to tracks.
        interval: maximum frames from one detection to the next; 1: detect in every frame.
    """

    def __init__(self, finder: FaceFinder, tracker: Tracker, interval: int = 1) -> None:
        self._finder = finder
        self._tracker = tracker
        self._interval = interval
        self._frames_since = 0
        self._scene: int | None = None

    def limit(self, interval: int) -> None:
        """Use another interval."""
        self._interval = interval

    def __call__(self, frame: Frame) -> TrackedFaces:
        self._frames_since += 1
        if self._frames_since < self._interval and frame.scene == self._scene:
            expected = self._tracker.expected(frame, partial(self._finder.cut, frame))
            if expected is not None:
                return expected
        found = self._tracker(self._finder(frame))
        # Not before, so that a failed detection is tried again in the next frame.
        self._frames_since, self._scene = 0, frame.scene
        return found
