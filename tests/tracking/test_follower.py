"""Face detection at an interval, with tracking in between."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import frame
from drawing import draw_scene

from edge_daemon import EmotionEnsemble
from edge_daemon._lib.clock import SystemClock
from edge_daemon.capture import create_source
from edge_daemon.capture.loop import FrameMaker
from edge_daemon.config.settings import (
    QualitySettings,
    SmoothingSettings,
    TrackingSettings,
)
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.step import FaceFinder
from edge_daemon.detection.yunet import YuNetDetector
from edge_daemon.inference.step import EmotionRecognizer, Smoother
from edge_daemon.records import Detection, Frame, FrameResult, Image, TrackedFaces
from edge_daemon.tracking.tracker import FaceFollower, Tracker

ALL_GOOD = QualitySettings(min_face=0, min_sharpness=0, max_yaw=10)


class Counted(HaarDetector):
    """A detector that counts its images."""

    def __init__(self) -> None:
        super().__init__(24)
        self.pictures = 0

    def detect(self, bgr: Image) -> list[Detection]:
        self.pictures += 1
        return super().detect(bgr)


@pytest.fixture
def detector() -> Counted:
    return Counted()


@pytest.fixture
def follow(detector: Counted) -> Callable[[int], FaceFollower]:
    def make(interval: int) -> FaceFollower:
        return FaceFollower(
            FaceFinder(detector, 640, ALL_GOOD), Tracker(TrackingSettings(max_age=2.0)), interval
        )

    return make


def moving(steps: int, pixels: int = 3) -> Iterator[Frame]:
    """A face that goes to the right, ten frames a second."""
    for step in range(steps):
        yield frame(step / 10, bgr=draw_scene((40 + pixels * step, 60, 120)), index=step)


def test_follower_searches_each_of_frames_that_are_far_apart(detector: Counted) -> None:
    finder = FaceFinder(detector, 640, ALL_GOOD)
    follower = FaceFollower(finder, Tracker(TrackingSettings()), interval=3)
    empty, scene = draw_scene(), draw_scene((40, 60, 120))
    found = [
        len(follower(frame(at, bgr=bgr)).faces)
        for at, bgr in ((0.0, empty), (0.6, scene), (1.2, empty), (1.8, scene), (2.2, scene))
    ]
    assert (found, detector.pictures) == ([0, 1, 0, 1, 1], 5)


def test_follower_far_apart_frames_keep_the_interval_if_dropped(detector: Counted) -> None:
    finder = FaceFinder(detector, 640, ALL_GOOD)
    follower = FaceFollower(finder, Tracker(TrackingSettings()), interval=3)
    pictures = []
    for at, index in ((0.0, 0), (0.6, 9), (1.2, 10), (1.8, 19), (2.4, 20), (3.0, 21), (3.6, 22)):
        follower(frame(at, index=index))
        pictures.append(detector.pictures)
    assert pictures == [1, 1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("fps", "interval", "frames_each"),
    [(30, 3, 3), (15, 3, 3), (10, 3, 3), (5, 3, 1), (2, 3, 1), (15, 6, 6), (5, 6, 3)],
)
def test_follower_at_a_low_rate_detects_as_often_in_time(
    detector: Counted, fps: int, interval: int, frames_each: int
) -> None:
    finder = FaceFinder(detector, 640, ALL_GOOD)
    follower = FaceFollower(finder, Tracker(TrackingSettings()), interval)
    for index in range(12):
        jitter = 0.1 * (index % 2) / fps
        follower(frame(index / fps + jitter, bgr=draw_scene(), index=index))
    assert detector.pictures == 12 // frames_each


def test_follower_of_a_slow_camera_searches_each_frame(detector: Counted) -> None:
    finder, tracker = FaceFinder(detector, 640, ALL_GOOD), Tracker(TrackingSettings())
    follower = FaceFollower(finder, tracker, interval=3)
    for index in range(4):
        follower(frame(2.0 * index, index=index))
    assert detector.pictures == 4


def lefts(found: list[TrackedFaces]) -> list[float]:
    return [tracked.faces[0].face.detection.box.x for tracked in found]


@pytest.mark.parametrize(("interval", "pictures"), [(1, 12), (2, 6), (3, 4), (5, 3)])
def test_follower_detects_at_the_interval_and_tracks_always(
    follow: Callable[[int], FaceFollower], detector: Counted, interval: int, pictures: int
) -> None:
    found = list(map(follow(interval), moving(12, pixels=1)))
    assert detector.pictures == pictures
    assert [[item.track_id for item in tracked.faces] for tracked in found] == [[1]] * 12
    assert {tracked.live_tracks for tracked in found} == {frozenset({1})}


@pytest.mark.slow
def test_follower_moving_face_is_extrapolated(
    follow: Callable[[int], FaceFollower],
) -> None:
    looked, expected = (lefts(list(map(follow(interval), moving(20)))) for interval in (1, 3))
    # The tracker needs some frames to estimate the velocity.
    assert np.abs(np.subtract(looked, expected)[9:]).max() < 6
    assert len(set(expected)) > 15


def test_follower_crop_of_predicted_face_is_of_its_frame(
    follow: Callable[[int], FaceFollower], detector: Counted
) -> None:
    follower, picture = follow(9), draw_scene((60, 60, 120))
    bright = follower(frame(0.0, bgr=picture)).faces[0].face
    dim = follower(frame(0.1, bgr=picture // 2)).faces[0].face
    assert detector.pictures == 1
    assert dim.crop.mean() == pytest.approx(bright.crop.mean() / 2, rel=0.02)
    assert dim.detection.score == bright.detection.score


def test_follower_misplaced_face_triggers_detection(
    follow: Callable[[int], FaceFollower], detector: Counted
) -> None:
    follower, empty = follow(9), np.zeros((240, 320, 3), np.uint8)
    pictures = [draw_scene((60, 60, 120)), draw_scene((90, 60, 120)), empty, empty]
    found = [follower(frame(step / 10, bgr=bgr)) for step, bgr in enumerate(pictures)]
    assert [[item.track_id for item in tracked.faces] for tracked in found] == [[1], [1], [], []]
    first, jumped = lefts(found[:2])
    assert jumped - first == pytest.approx(30, abs=3)
    # No face is expected in the last frame.
    assert detector.pictures == 3


def test_follower_second_face_is_found_at_next_detection(
    follow: Callable[[int], FaceFollower],
) -> None:
    follower, one, two = follow(3), (10, 60, 100), (190, 60, 100)
    pictures = [draw_scene(one), *[draw_scene(one, two)] * 3]
    found = [follower(frame(step / 10, bgr=bgr)) for step, bgr in enumerate(pictures)]
    assert [len(tracked.faces) for tracked in found] == [1, 1, 1, 2]


@pytest.mark.parametrize("change", [{"scene": 1}, {"scene": 1, "is_blank": True}])
def test_follower_new_scene_triggers_detection(
    follow: Callable[[int], FaceFollower], change: dict[str, object]
) -> None:
    follower, seen = follow(9), frame(bgr=draw_scene((60, 60, 120)))
    follower(seen)
    other = follower(dataclasses.replace(seen, **change))
    assert [item.track_id for item in other.faces] == ([] if change.get("is_blank") else [2])


def test_follower_detector_failure_retries_in_next_frame(
    follow: Callable[[int], FaceFollower], detector: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, frames = follow(2), moving(4, pixels=1)
    follower(next(frames)), follower(next(frames))
    with monkeypatch.context() as broken:
        broken.setattr(detector, "detect", lambda _: cv2.resize(np.empty((0, 0)), (1, 1)))
        with pytest.raises(cv2.error):
            follower(next(frames))
    follower(next(frames))
    assert detector.pictures == 2


def test_follower_new_interval_counts_from_last_detection(
    follow: Callable[[int], FaceFollower], detector: Counted
) -> None:
    follower = follow(9)
    frames = moving(9)
    for _ in range(3):
        follower(next(frames))
    follower.set_interval(2)
    follower(next(frames))
    assert detector.pictures == 2
    follower.set_interval(1)
    for seen in frames:
        follower(seen)
    assert detector.pictures == 7


def test_follower_track_does_not_expire_between_detections(detector: Counted) -> None:
    follower = FaceFollower(
        FaceFinder(detector, 640, ALL_GOOD), Tracker(TrackingSettings(max_age=0.15)), interval=4
    )
    found = list(map(follower, moving(12)))
    assert {item.track_id for tracked in found for item in tracked.faces} == {1}


def read(clip: Path) -> Iterator[Frame]:
    maker, reader = FrameMaker(SystemClock(), 2.0), create_source(str(clip)).open()
    while (picture := reader.read()) is not None:
        yield maker.frame(picture)
    reader.close()


@pytest.mark.parametrize("interval", [2, 3, 5])
def test_follower_real_clips_keep_tracks_and_emotions(
    clips: list[Path], yunet_model: Path, interval: int
) -> None:
    ensemble = EmotionEnsemble.load()

    def results(clip: Path, interval: int) -> list[FrameResult]:
        detector = YuNetDetector(yunet_model, 0.7)
        finder = FaceFinder(detector, 640, ALL_GOOD)
        follower = FaceFollower(
            finder, Tracker(TrackingSettings(max_age=2.0), detector.start_score), interval
        )
        recognizer, smoother = (
            EmotionRecognizer(ensemble),
            Smoother(SmoothingSettings(uncertain_below=0)),
        )
        return [smoother(recognizer(follower(frame))) for frame in read(clip)]

    agreed: Counter[bool] = Counter()
    for clip in clips:
        for looked, expected in zip(results(clip, 1), results(clip, interval), strict=True):
            by_detection, by_track = (
                {face.track_id: face.emotion for face in it.faces} for it in (looked, expected)
            )
            assert by_detection.keys() == by_track.keys()
            agreed.update(by_detection[track] == by_track[track] for track in by_detection)
    assert agreed[True] / agreed.total() > 0.95
