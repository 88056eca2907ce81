from pathlib import Path

import pytest

from benchmarks import following
from edge_daemon._lib.files import bundled_models


def test_still_face_is_as_good_with_fewer_detections(drawn_clip: Path) -> None:
    measured = following.measure([drawn_clip], bundled_models(), "haar")
    points = {point.every: point for point in measured.points}
    assert points[1].looks == 1
    assert points[3].looks == pytest.approx(1 / 3, abs=0.1)
    assert {point.faces for point in measured.points} == {measured.frames}
    assert (points[1].displacement, points[1].agreement) == (0, 1)
    assert points[3].displacement < 0.05
