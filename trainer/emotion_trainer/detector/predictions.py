"""Detections of a network in grey images, decoded by the daemon's code."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import keras
import numpy as np
from keras.ops import convert_to_numpy

from edge_daemon.config.settings import DetectionSettings
from edge_daemon.detection.bundled import FaceSearch, MapNetwork
from edge_daemon.detection.decoding import STRIDES, decode
from edge_daemon.records import Detection, Image
from emotion_trainer.detector.faces import Finder, Floats

MIN_SCORE: Final = 0.02
"""Average precision needs detections of low scores, too."""
BATCH: Final = 50


def keras_finder(model: keras.Model) -> Finder:
    """Detections of a Keras model, called eagerly: a compiled one is traced for each size."""
    return outputs_finder(lambda images: convert_to_numpy(model(images, training=False)))


def outputs_finder(predict: Callable[[Floats], Floats]) -> Finder:
    """Detections of a function from [N, H, W, 1] to all cells' outputs [N, cells, 15]."""

    def find(images: Sequence[Image]) -> list[list[Detection]]:
        found: list[list[Detection]] = []
        for first in range(0, len(images), BATCH):
            batch = _padded(np.stack(images[first : first + BATCH]))
            outputs = predict(batch[..., np.newaxis].astype(np.float32))
            found += [_decoded(cells, batch.shape[1:]) for cells in outputs]
        return found

    return find


def tflite_finder(path: Path, levels: Collection[int] = range(len(STRIDES))) -> Finder:
    """Detections of an exported file in the daemon's own runtime, by the network alone.

    Args:
        path: the file.
        levels: the maps to use; 0 is the finest.
    """
    network = MapNetwork(path, threads=1)

    def find_in(image: Image) -> list[Detection]:
        scores, geometry = network.maps(image)
        used = [
            map_ if level in levels else np.full_like(map_, -np.inf)
            for level, map_ in enumerate(scores)
        ]
        return decode(used, geometry, MIN_SCORE)

    return lambda images: [find_in(image) for image in images]


def search_finder(search: Path, verifier: Path) -> Finder:
    """Detections of exported files by the daemon's whole search with default settings."""
    whole, certain_score = FaceSearch(search, verifier, threads=1), DetectionSettings().min_score
    return lambda images: [whole.faces(image, MIN_SCORE, certain_score) for image in images]


def _padded(images: Image) -> Image:
    """[N, H, W] with black rows and columns added up to whole cells, as the daemon does."""
    height, width = images.shape[1:]
    below, right = -height % STRIDES[-1], -width % STRIDES[-1]
    return np.pad(images, ((0, 0), (0, below), (0, right)))


def _decoded(cells: Floats, shape: tuple[int, ...]) -> list[Detection]:
    """The faces of one image from its cells' outputs, float32 [cells, 15]."""
    maps = []
    for stride in STRIDES:
        rows, columns = shape[0] // stride, shape[1] // stride
        maps.append(cells[: rows * columns].reshape(rows, columns, -1))
        cells = cells[rows * columns :]
    return decode([m[..., 0] for m in maps], [m[..., 1:] for m in maps], MIN_SCORE)
