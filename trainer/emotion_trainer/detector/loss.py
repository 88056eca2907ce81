"""What the network is blamed for: scores by focal loss, boxes by overlap, landmarks by distance."""

from typing import Final

import keras
from keras import ops

from emotion_trainer.detector.assignment import BOX, LANDMARKS, LANDMARKS_KNOWN, SCORE, WEIGHT

FOCUS: Final = 2.0
BALANCE: Final = 0.35
"""Focal loss (Lin et al. 2017): the exponent, and the share of cells with a face."""
BOX_SHARE: Final = 1.5
LANDMARKS_SHARE: Final = 1.0
WIDEST: Final = 4.0
"""Of a box's logarithmic side: exp of more would overflow in the first steps."""


def detection_loss(targets: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.KerasTensor:
    """The loss of [B, cells, COLUMNS] and [B, cells, 15], one number a picture.

    All parts are divided by the number of cells with a face in the whole batch.
    """
    faces = targets[..., SCORE]
    scores = _focal(faces, outputs[..., 0]) * targets[..., WEIGHT]
    boxes = faces * _generalised_iou_loss(targets[..., BOX], outputs[..., 1:5])
    sides = ops.exp(targets[..., BOX][..., 2:])
    known = faces * targets[..., LANDMARKS_KNOWN]
    landmarks = known * _landmark_loss(targets[..., LANDMARKS], outputs[..., 5:], sides)
    total = ops.sum(scores + BOX_SHARE * boxes + LANDMARKS_SHARE * landmarks, axis=-1)
    pictures = ops.cast(ops.shape(targets)[0], total.dtype)
    return total * pictures / ops.maximum(ops.sum(faces), 1.0)


def _focal(truth: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    certain = ops.sigmoid(logits)
    missed = ops.softplus(-logits) * (1.0 - certain) ** FOCUS
    imagined = ops.softplus(logits) * certain**FOCUS
    return 4.0 * (BALANCE * truth * missed + (1.0 - BALANCE) * (1.0 - truth) * imagined)


def _generalised_iou_loss(truth: keras.KerasTensor, told: keras.KerasTensor) -> keras.KerasTensor:
    """1 less the generalised intersection over union (Rezatofighi et al. 2019)."""
    low, high = _corners(truth)
    told_low, told_high = _corners(told)
    shared = _area(ops.maximum(low, told_low), ops.minimum(high, told_high))
    union = _area(low, high) + _area(told_low, told_high) - shared
    hull = _area(ops.minimum(low, told_low), ops.maximum(high, told_high))
    return 1.0 - shared / union + (hull - union) / hull


def _corners(box: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    half = ops.exp(ops.clip(box[..., 2:], -WIDEST, WIDEST)) / 2.0
    return box[..., :2] - half, box[..., :2] + half


def _area(low: keras.KerasTensor, high: keras.KerasTensor) -> keras.KerasTensor:
    return ops.prod(ops.maximum(high - low, 0.0), axis=-1) + 1e-6


def _landmark_loss(
    truth: keras.KerasTensor, told: keras.KerasTensor, sides: keras.KerasTensor
) -> keras.KerasTensor:
    """Mean absolute distance of the landmarks in tenths of the face's size."""
    size = ops.sqrt(ops.prod(sides, axis=-1))
    return 10.0 * ops.mean(ops.abs(truth - told), axis=-1) / ops.maximum(size, 1e-6)
