"""A clip's frames, and what follows the faces in them, as the daemon's settings want it."""

from collections.abc import Iterator
from contextlib import closing

from edge_daemon._lib.clock import SystemClock
from edge_daemon.capture import source_from_settings
from edge_daemon.capture.loop import FrameMaker
from edge_daemon.config.settings import Settings
from edge_daemon.detection import Detector
from edge_daemon.detection.step import FaceFinder
from edge_daemon.records import Frame
from edge_daemon.tracking.tracker import FaceFollower, Tracker


def frames_of(settings: Settings) -> Iterator[Frame]:
    """The frames of one round of the clip."""
    maker = FrameMaker(SystemClock(), settings.tracking.max_age)
    with closing(source_from_settings(settings).open()) as reader:
        while (captured := reader.read()) is not None:
            yield maker.frame(captured)


def follower_of(settings: Settings, detector: Detector) -> FaceFollower:
    """The daemon's detection step with this detector."""
    limits = settings.quality
    finder = FaceFinder(detector, settings.detection.max_side, limits)
    tracker = Tracker(settings.tracking, detector.start_score)
    return FaceFollower(finder, tracker, settings.detection.interval)
