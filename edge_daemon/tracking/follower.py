"""The detection step: faces are looked for in some frames, and expected in those between.

Finding faces costs most of a frame's time, and a face moves little from one frame to the next. In
between, each face is cut out where its track should be by now, tilted as it was found; if one of
them does not look like itself there, faces are looked for at once.
"""

from functools import partial

from edge_daemon.detection.step import FaceFinder
from edge_daemon.records import Frame, TrackedFaces
from edge_daemon.tracking.tracker import Tracker


class FaceFollower:
    """Finds the faces of a frame and names them.

    Args:
        finder: what looks for them.
        tracker: what knows them again.
        every: frames from one detection to the next at most; 1 is in each.
    """

    def __init__(self, finder: FaceFinder, tracker: Tracker, every: int = 1) -> None:
        self._finder = finder
        self._tracker = tracker
        self._every = every
        self._frames_since = 0
        self._scene: int | None = None

    def adjust(self, every: int) -> None:
        """Take over another number of frames."""
        self._every = every

    def __call__(self, frame: Frame) -> TrackedFaces:
        self._frames_since += 1
        if self._frames_since < self._every and frame.scene == self._scene:
            expected = self._tracker.expected(frame, partial(self._finder.cut, frame))
            if expected is not None:
                return expected
        found = self._tracker(self._finder(frame))
        # Not before: a detector that failed is asked again about the next frame.
        self._frames_since, self._scene = 0, frame.scene
        return found
