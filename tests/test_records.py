import numpy as np
import pytest

from edge_daemon.records import Box, Detection


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Box(0.0, 0.0, 4.0, 2.0), 1.0),
        (Box(2.0, 0.0, 4.0, 2.0), 1 / 3),
        (Box(1.0, 0.5, 2.0, 1.0), 0.25),
        (Box(4.0, 0.0, 4.0, 2.0), 0.0),
        (Box(-9.0, 7.0, 4.0, 2.0), 0.0),
    ],
)
def test_iou_of_boxes_is_shared_area_over_all_area(other: Box, expected: float) -> None:
    box = Box(0.0, 0.0, 4.0, 2.0)
    assert box.iou(other) == pytest.approx(expected)
    assert other.iou(box) == pytest.approx(expected)


def test_mirrored_detection_swaps_right_and_left_landmarks() -> None:
    landmarks = np.array([[12, 20], [18, 21], [14, 25], [12, 28], [17, 29]], np.float32)
    detection = Detection(Box(10.0, 15.0, 12.0, 18.0), 0.9, landmarks)
    mirrored = detection.mirrored(100.0)
    assert mirrored.box == Box(78.0, 15.0, 12.0, 18.0)
    assert mirrored.landmarks is not None
    assert mirrored.landmarks.tolist() == [[82, 21], [88, 20], [86, 25], [83, 29], [88, 28]]
    again = mirrored.mirrored(100.0)
    assert again.box == detection.box
    assert again.landmarks is not None
    np.testing.assert_array_equal(again.landmarks, landmarks)


def test_mirrored_detection_without_landmarks_has_none() -> None:
    assert Detection(Box(1.0, 2.0, 3.0, 4.0), 0.5).mirrored(10.0).landmarks is None
