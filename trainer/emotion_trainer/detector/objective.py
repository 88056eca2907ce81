"""The training objective: which cells find which face, and the loss of all outputs.

SimOTA (Ge et al. 2021) assigns cells to faces with the network's current outputs. By the quality
focal loss (Li et al. 2020), a score learns the intersection over union of its box with the face, so
scores rank boxes by their quality.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_daemon.detection.decoding import STRIDES, cell_centres
from emotion_trainer.detector.faces import LANDMARKS, Faces

CENTRE_RADIUS: Final = 2.5
"""Strides around a face's centre in which its cells lie."""
MAX_CELLS: Final = 10
IOU_COST: Final = 3.0
OUTSIDE_COST: Final = 1e5
"""Of a cell outside a face's box or far from its centre, which only tiny faces need."""
IGNORED_REACH: Final = 0.5
"""Parts of the box's sides around the centre of an ignored face in which scores give no loss."""
BOX_WEIGHT: Final = 2.0
LANDMARK_WEIGHT: Final = 0.4
SCORE_WEIGHT: Final = 1.0
MAX_LOG_SIDE: Final = 4.0
"""Limit of the predicted sides; in the first steps, exp would overflow."""
FULL_LANDMARK_SIZE: Final = 32.0
"""Pixels; the landmarks of smaller faces are less exact and weigh less."""
EPSILON: Final = 1e-6


@dataclass(frozen=True)
class Losses:
    """The parts of a batch's loss, each divided by the number of assigned cells."""

    scores: Tensor
    boxes: Tensor
    landmarks: Tensor

    @property
    def total(self) -> Tensor:
        """The weighted sum."""
        return (
            SCORE_WEIGHT * self.scores + BOX_WEIGHT * self.boxes + LANDMARK_WEIGHT * self.landmarks
        )


@lru_cache(maxsize=4)
def cells_of(side: int) -> tuple[Tensor, Tensor]:
    """Centres [cells, 2] and strides [cells, 1] of a square image's cells, in pixels."""
    centres = [cell_centres(side // s, side // s, s).reshape(-1, 2) for s in STRIDES]
    strides = [np.full((len(c), 1), s, np.float32) for c, s in zip(centres, STRIDES, strict=True)]
    return torch.from_numpy(np.concatenate(centres)), torch.from_numpy(np.concatenate(strides))


def detection_losses(outputs: Tensor, faces: Sequence[Faces], side: int) -> Losses:
    """The losses of outputs [N, cells, 15] for square images with these faces."""
    centres, strides = cells_of(side)
    boxes = _decoded_boxes(outputs, centres, strides)
    quality = torch.zeros_like(outputs[..., 0])
    weight = torch.ones_like(quality)
    rows: list[Tensor] = []
    cells: list[Tensor] = []
    truths: list[Tensor] = []
    with torch.no_grad():
        for number, present in enumerate(faces):
            truth = _truth(present)
            ignored = torch.from_numpy(present.doubtful)
            weight[number] = ~_ignored_cells(truth[ignored], centres)
            sure = truth[~ignored]
            cell, owner = _assigned(outputs[number, :, 0], boxes[number], sure, centres, strides)
            rows.append(number * len(centres) + cell)
            truths.append(sure[owner])
            cells.append(cell)
        row, target = torch.cat(rows), torch.cat(truths)
        cell = torch.cat(cells)
        weight.view(-1)[row] = 1.0
    found = boxes.reshape(-1, 4)[row]
    quality.view(-1)[row] = _iou(found.detach(), target[:, :4]).clamp(0.0, 1.0)
    box_loss = (1.0 - _generalised_iou(found, target[:, :4])).sum()
    scores = (weight * _quality_focal(outputs[..., 0], quality)).sum()
    landmarks = _landmark_loss(
        outputs.reshape(-1, outputs.shape[-1])[row, 5:], target, centres[cell], strides[cell]
    )
    count = max(1.0, float(len(row)))
    # Every face weighs the same in the sum over cells, whatever its size.
    return Losses(scores / count, box_loss / count, landmarks / count)


def _truth(faces: Faces) -> Tensor:
    """Left, top, right, bottom, then ten coordinates of landmarks: float32 [faces, 14]."""
    corners = np.concatenate([faces.boxes[:, :2], faces.boxes[:, :2] + faces.boxes[:, 2:]], axis=1)
    marks = faces.landmarks.reshape(len(faces), 2 * LANDMARKS)
    return torch.from_numpy(np.concatenate([corners, marks], axis=1).astype(np.float32))


def _decoded_boxes(outputs: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Corners [N, cells, 4] in pixels."""
    middle = centres + strides * outputs[..., 1:3]
    half = strides * torch.exp(outputs[..., 3:5].clamp(-MAX_LOG_SIDE, MAX_LOG_SIDE)) / 2.0
    return torch.cat([middle - half, middle + half], dim=-1)


def _ignored_cells(truth: Tensor, centres: Tensor) -> Tensor:
    """Whether a cell's centre lies in an ignored face: bool [cells]."""
    if not len(truth):
        return torch.zeros(len(centres), dtype=torch.bool)
    middle = (truth[:, :2] + truth[:, 2:4]) / 2.0
    sides = (truth[:, 2:4] - truth[:, :2]).clamp_min(STRIDES[0])
    offset = (centres[:, None] - middle) / sides
    return (offset.abs().amax(dim=-1) <= IGNORED_REACH).any(dim=1)


def _assigned(
    logits: Tensor, boxes: Tensor, truth: Tensor, centres: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor]:
    """The indices of cells that are assigned to a face, and of that face, by SimOTA."""
    if not len(truth):
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    offsets = centres[:, None] - (truth[:, :2] + truth[:, 2:4]) / 2.0
    inside = ((centres[:, None] > truth[:, :2]) & (centres[:, None] < truth[:, 2:4])).all(dim=-1)
    near = offsets.abs().amax(dim=-1) < CENTRE_RADIUS * strides
    candidates = (inside | near).any(dim=1).nonzero()[:, 0]
    iou = _iou(boxes[candidates][:, None], truth[:, :4])
    costs = (
        functional.softplus(-logits[candidates])[:, None]
        - IOU_COST * torch.log(iou + 1e-8)
        + OUTSIDE_COST * ~(inside & near)[candidates]
    )
    count = iou.topk(min(MAX_CELLS, len(candidates)), dim=0).values.sum(dim=0).int()
    count = count.clamp(1, len(candidates))
    chosen = torch.full(costs.shape, torch.inf)
    for face, cells in enumerate(count.tolist()):
        lowest, index = costs[:, face].topk(cells, largest=False)
        chosen[index, face] = lowest
    lowest, owner = chosen.min(dim=1)
    assigned = torch.isfinite(lowest)
    return candidates[assigned], owner[assigned]


def _intersection_and_union(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Areas that corners [..., 4] share and cover, each [...]."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp_min(0.0).prod(dim=-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    union = areas + (others[..., 2:] - others[..., :2]).prod(dim=-1) - shared
    return shared, union + EPSILON


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of corners [..., 4]: [...]."""
    shared, union = _intersection_and_union(boxes, others)
    return shared / union


def _generalised_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of corners [..., 4]: [...].

    It also falls with the part of the enclosing box that neither box covers.
    """
    shared, union = _intersection_and_union(boxes, others)
    low = torch.minimum(boxes[..., :2], others[..., :2])
    high = torch.maximum(boxes[..., 2:], others[..., 2:])
    enclosing = (high - low).prod(dim=-1) + EPSILON
    return shared / union - (enclosing - union) / enclosing


def _quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    distance = (quality - torch.sigmoid(logits)).abs()
    loss = functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return distance**2 * loss


def _landmark_loss(predicted: Tensor, truth: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Sum over the cells of the landmarks' mean distance in tenths of the face's size."""
    known = torch.isfinite(truth[:, 4:]).all(dim=1)
    points = torch.nan_to_num(truth[:, 4:]).view(-1, 5, 2)
    found = centres[:, None] + strides[:, None] * predicted.view(-1, 5, 2)
    size = (truth[:, 2:4] - truth[:, :2]).prod(dim=1).sqrt().clamp_min(1.0)
    trust = (size / FULL_LANDMARK_SIZE).clamp_max(1.0) * known
    return (trust * 10.0 * (points - found).abs().mean(dim=(1, 2)) / size).sum()
