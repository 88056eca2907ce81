import math

import numpy as np
import pytest
from builders import probabilities, result

from edge_daemon.config.settings import SmoothingSettings
from edge_daemon.inference.step import Smoother

HAPPY = probabilities(happy=0.94)
SAD = probabilities(sad=0.94)


def smoother_of(time_constant: float, uncertain_below: float = 0.0) -> Smoother:
    return Smoother(SmoothingSettings(time_constant=time_constant, uncertain_below=uncertain_below))


def happiness(smoother: Smoother, at: float) -> float:
    """The smoothed probability of `happy` after a sad frame."""
    answer = smoother(result(at, {1: SAD})).faces[0].probabilities
    assert answer is not None
    return float(answer[3])


def test_smoothing_first_exactis_unchanged() -> None:
    smoothed = smoother_of(1.0, 0.0)(result(0.0, {1: HAPPY})).faces[0]
    assert np.array_equal(smoothed.probabilities, HAPPY)


@pytest.mark.parametrize("frames", [1, 5, 50])
def test_smoothing_step_response_matches_the_time_constant(frames: int) -> None:
    smoother = smoother_of(2.0, 0.0)
    smoother(result(0.0, {1: HAPPY}))
    for step in range(1, frames + 1):
        left = happiness(smoother, 2.0 * step / frames)
    expected = 0.01 + math.exp(-1) * 0.93
    assert left == pytest.approx(expected, abs=1e-4)


def test_smoothing_keeps_the_sum_and_the_raw_probabilities() -> None:
    smoother = smoother_of(1.0, 0.0)
    smoother(result(0.0, {1: HAPPY}))
    face = smoother(result(0.3, {1: SAD})).faces[0]
    assert face.probabilities is not None
    assert face.probabilities.sum() == pytest.approx(1.0, abs=1e-6)
    assert np.array_equal(face.raw, SAD)


def test_smoothing_time_constant_0_changes_nothing() -> None:
    smoother = smoother_of(0.0, 0.0)
    smoother(result(0.0, {1: HAPPY}))
    assert happiness(smoother, 0.1) == pytest.approx(0.01)


def test_smoothing_tracks_are_independent() -> None:
    smoother = smoother_of(1.0, 0.0)
    smoother(result(0.0, {1: HAPPY, 2: SAD}))
    faces = smoother(result(0.1, {2: SAD, 1: HAPPY})).faces
    assert [face.emotion for face in faces] == ["sad", "happy"]
    assert np.allclose(faces[0].probabilities, SAD)


def test_smoothing_unscored_face_keeps_its_state() -> None:
    smoother = smoother_of(10.0, 0.0)
    smoother(result(0.0, {1: HAPPY}))
    assert smoother(result(0.1, {1: None})).faces[0].emotion is None
    assert happiness(smoother, 0.2) > 0.8


def test_smoothing_expired_track_is_removed() -> None:
    smoother = smoother_of(10.0, 0.0)
    smoother(result(0.0, {1: HAPPY}))
    smoother(result(0.1, {}))
    assert happiness(smoother, 0.2) == pytest.approx(0.01)


def test_smoothing_low_confidence_is_flagged_not_hidden() -> None:
    smoother = smoother_of(0.0, uncertain_below=0.5)
    unsure, sure = smoother(
        result(0.0, {1: probabilities(fear=0.49), 2: probabilities(fear=0.51)})
    ).faces
    assert (unsure.uncertain, unsure.emotion) == (True, "fear")
    assert not sure.uncertain
