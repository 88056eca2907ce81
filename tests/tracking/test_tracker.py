import numpy as np
import pytest
from builders import face, found
from drawing import Image, draw_face

from edge_daemon.config.settings import TrackingSettings
from edge_daemon.tracking.tracker import Tracker


def ids(tracker: Tracker, at: float, *faces: object, scene: int = 0) -> list[int]:
    tracked = tracker(found(at, *faces, scene=scene))  # type: ignore[arg-type]
    return [item.track_id for item in tracked.faces]


def look(seed: int) -> Image:
    """A crop with a unique appearance per seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6))
    return np.kron(coarse, np.ones((8, 8))).astype(np.uint8)


def test_tracker_moving_face_keeps_its_id() -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0))
    seen = {ids(tracker, step / 10, face(x=10 + 15 * step))[0] for step in range(12)}
    assert seen == {1}


def test_tracker_ids_are_independent_of_the_order() -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0))
    left, right = face(x=20), face(x=200)
    assert ids(tracker, 0.0, left, right) == [1, 2]
    assert ids(tracker, 0.1, right, left) == [2, 1]


def test_tracker_undetected_face_keeps_its_id_up_to_max_age() -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0))
    assert ids(tracker, 0.0, face()) == [1]
    assert ids(tracker, 0.5) == []
    assert ids(tracker, 1.0, face()) == [1]
    assert ids(tracker, 2.1, face()) == [2]


@pytest.mark.parametrize("max_age", [0.0, 0.05])
def test_tracker_tiny_max_age_keeps_visible_faces(max_age: float) -> None:
    tracker = Tracker(TrackingSettings(max_age=max_age))
    assert [ids(tracker, at, face()) for at in (0.0, 0.1, 0.2)] == [[1], [1], [1]]
    assert [ids(tracker, at) for at in (0.3, 0.4)] == [[], []]
    assert ids(tracker, 0.5, face()) == [2]
    assert ids(tracker, 1.6, face()) == [3]


def test_tracker_of_a_slow_camera_keeps_ids_for_three_frames() -> None:
    tracker = Tracker(TrackingSettings(max_age=2.0), frame_interval_s=10.0)
    assert [ids(tracker, at, face()) for at in (0.0, 10.0, 20.1)] == [[1], [1], [1]]
    tracker.apply(TrackingSettings(max_age=1.0))
    assert [ids(tracker, at) for at in (30.0, 40.0)] == [[], []]
    assert ids(tracker, 50.0, face()) == [1]
    assert ids(tracker, 80.1, face()) == [2]


def test_tracker_of_a_camera_slower_than_set_keeps_ids() -> None:
    tracker = Tracker(TrackingSettings(max_age=2.0), frame_interval_s=0.1)
    assert [ids(tracker, at, face()) for at in (0.0, 3.0, 6.0)] == [[1], [1], [1]]
    assert ids(tracker, 9.0) == []
    assert ids(tracker, 12.0, face()) == [1]


def test_tracker_of_a_stalled_camera_starts_new_tracks() -> None:
    tracker = Tracker(TrackingSettings(max_age=2.0), frame_interval_s=0.1)
    assert [ids(tracker, at, face()) for at in (0.0, 0.1, 3.0)] == [[1], [1], [2]]


def test_tracker_lost_face_is_matched_at_predicted_place() -> None:
    tracker = Tracker(TrackingSettings(max_age=2.0))
    for step in range(6):
        ids(tracker, step / 10, face(x=20 + 20 * step, side=40))
    assert ids(tracker, 0.9, face(x=200, side=40)) == [1]


def test_tracker_crossing_faces_keep_their_ids() -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0))
    anna, bert = look(1), look(2)
    for step in range(21):
        going_right = face(x=20.0 + 10 * step, crop=anna)
        going_left = face(x=220.0 - 10 * step, y=105, crop=bert)
        hidden = 8 < step < 12  # the one in front hides the other
        faces = [going_right] if hidden else [going_right, going_left]
        assert ids(tracker, step / 10, *faces) == ([1] if hidden else [1, 2])


def test_tracker_ambiguous_places_are_matched_by_appearance() -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0))
    ids(tracker, 0.0, face(x=100, crop=look(1)), face(x=120, crop=look(2)))
    assert ids(tracker, 0.1, face(x=110, crop=look(2)), face(x=110, crop=look(1))) == [2, 1]


@pytest.mark.parametrize("other", [face(x=290, side=50), face(side=160)], ids=["far", "large"])
def test_tracker_different_face_gets_a_new_id(other: object) -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0))
    ids(tracker, 0.0, face(x=20, side=50))
    assert ids(tracker, 0.1, other) == [2]


def test_tracker_new_scene_starts_new_tracks() -> None:
    tracker = Tracker(TrackingSettings(max_age=9.0))
    assert ids(tracker, 0.0, face(), scene=0) == [1]
    assert ids(tracker, 1.0, face(), scene=1) == [2]


def test_tracker_undetected_tracks_are_reported_as_live() -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0))
    tracker(found(0.0, face()))
    assert tracker(found(0.5)).live_tracks == {1}
    assert tracker(found(1.5)).live_tracks == frozenset()


def test_tracker_low_score_continues_a_track_but_starts_none() -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0), start_score=0.7)
    doubtful, certain = face(score=0.5), face(score=0.8)
    assert ids(tracker, 0.0, doubtful) == []
    assert ids(tracker, 0.1, certain, face(x=220, score=0.6)) == [1]
    assert ids(tracker, 0.2, doubtful) == [1]


def test_tracker_black_crop_is_accepted() -> None:
    tracker = Tracker(TrackingSettings(max_age=1.0))
    black = np.zeros_like(draw_face(48))
    assert ids(tracker, 0.0, face(crop=black)) == ids(tracker, 0.1, face(crop=black)) == [1]
