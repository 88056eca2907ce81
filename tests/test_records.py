import pytest

from edge_daemon.records import Box


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
