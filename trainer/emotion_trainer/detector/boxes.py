"""Intersections of boxes; a box is left, top, width and height."""

import numpy as np

from emotion_trainer.detector.faces import Floats


def intersection(boxes: Floats, others: Floats) -> Floats:
    """The areas that boxes [N, 4] share with others [M, 4], float32 [N, M]."""
    low = np.maximum(boxes[:, np.newaxis, :2], others[:, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, np.newaxis], others[:, :2] + others[:, 2:])
    return np.asarray((high - low).clip(0).prod(axis=2), np.float32)


def iou(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of boxes [N, 4] and others [M, 4], float32 [N, M]."""
    shared = intersection(boxes, others)
    areas = boxes[:, 2:].prod(axis=1)[:, np.newaxis] + others[:, 2:].prod(axis=1)
    return np.asarray(shared / (areas - shared), np.float32)
