import numpy as np

from emotion_trainer.detector.boxes import intersection, iou

BOXES = np.array([[0, 0, 10, 10], [4, 4, 2, 2]], np.float32)
OTHERS = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 5, 5]], np.float32)


def test_intersection_is_the_shared_area_of_each_pair() -> None:
    np.testing.assert_allclose(intersection(BOXES, OTHERS), [[100, 50, 0], [4, 2, 0]])


def test_iou_is_the_shared_part_of_each_pairs_union() -> None:
    np.testing.assert_allclose(iou(BOXES, OTHERS), [[1, 1 / 3, 0], [0.04, 2 / 102, 0]], rtol=1e-6)


def test_iou_without_other_boxes_has_no_columns() -> None:
    assert iou(BOXES, OTHERS[:0]).shape == (2, 0)
