"""What a network finds in pictures, as the daemon would be told."""

from collections.abc import Sequence
from typing import Final

import keras
import numpy as np

from edge_daemon.detection.decoding import STRIDES, decode
from edge_daemon.records import Detection, Image
from emotion_trainer.detector.faces import Floats

LEAST_SCORE: Final = 0.02
"""Average precision looks at doubtful findings too."""
BATCH: Final = 50


def keras_faces(model: keras.Model, images: Sequence[Image]) -> list[list[Detection]]:
    """The faces in grey pictures of one size, uint8 [H, W] each."""
    found = []
    for first in range(0, len(images), BATCH):
        batch = np.stack(images[first : first + BATCH])[..., np.newaxis]
        outputs = np.asarray(model.predict_on_batch(batch))
        found += [_decoded(cells, batch.shape[1:3]) for cells in outputs]
    return found


def _decoded(cells: Floats, shape: tuple[int, int]) -> list[Detection]:
    """The faces of one picture from its cells' outputs, float32 [cells, 15]."""
    maps = []
    for stride in STRIDES:
        rows, columns = shape[0] // stride, shape[1] // stride
        maps.append(cells[: rows * columns].reshape(rows, columns, -1))
        cells = cells[rows * columns :]
    return decode([m[..., 0] for m in maps], [m[..., 1:] for m in maps], LEAST_SCORE)
