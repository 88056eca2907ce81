import dataclasses

import pytest
from builders import frame
from drawing import draw_scene

from edge_daemon.config.settings import QualitySettings
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.step import FaceFinder

ALL_GOOD = QualitySettings(min_face=0, min_sharpness=0, max_yaw=10)
SEEN = frame(bgr=draw_scene((60, 60, 120)))


@pytest.mark.parametrize(("blank", "count"), [(False, 1), (True, 0)])
def test_finder_skips_blank_frames(*, blank: bool, count: int) -> None:
    finder = FaceFinder(HaarDetector(24), 640, ALL_GOOD)
    frame_ = dataclasses.replace(SEEN, is_blank=blank)
    found = finder(frame_)
    assert found.frame is frame_
    assert len(found.faces) == count
