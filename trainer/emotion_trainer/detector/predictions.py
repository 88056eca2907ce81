"""What a detector finds in grey pictures, as the daemon would be told."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import cv2
import keras
import numpy as np

from edge_daemon.detection.bundled import MapNetwork
from edge_daemon.detection.decoding import STRIDES, decode
from edge_daemon.detection.yunet import CONTINUATION, YuNetDetector
from edge_daemon.records import Detection, Image
from emotion_trainer.detector.faces import Floats
from emotion_trainer.errors import DataError
from emotion_trainer.runs import load_keras

LEAST_SCORE: Final = 0.02
"""Average precision looks at doubtful findings too."""
BATCH: Final = 50

Finder = Callable[[Sequence[Image]], list[list[Detection]]]
"""From grey pictures of one size, uint8 [H, W] each, to the faces in each."""


def finder_of(path: Path) -> Finder:
    """What finds faces by a `.keras` or `.tflite` file, or, to compare, by YuNet's `.onnx`.

    Raises:
        DataError: the file is of no such kind.
        DetectorError, TrainingError: it is missing or damaged.
    """
    match path.suffix:
        case ".keras":
            return keras_finder(load_keras(path))
        case ".tflite":
            return tflite_finder(path)
        case ".onnx":
            return _yunet_finder(path)
        case _:
            raise DataError(f"{path}: must be a .keras, .tflite or .onnx file")


def keras_finder(model: keras.Model) -> Finder:
    """What a Keras model finds."""

    def find(images: Sequence[Image]) -> list[list[Detection]]:
        found: list[list[Detection]] = []
        for first in range(0, len(images), BATCH):
            batch = np.stack(images[first : first + BATCH])[..., np.newaxis]
            outputs = np.asarray(model.predict_on_batch(batch))
            found += [_decoded(cells, batch.shape[1:3]) for cells in outputs]
        return found

    return find


def tflite_finder(path: Path) -> Finder:
    """What an exported file finds, by the daemon's own runtime."""
    network = MapNetwork(path, threads=1)
    return lambda images: [decode(*network.maps(image), LEAST_SCORE) for image in images]


def _yunet_finder(path: Path) -> Finder:
    detector = YuNetDetector(path, LEAST_SCORE + CONTINUATION)

    def find(images: Sequence[Image]) -> list[list[Detection]]:
        colours = (cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) for image in images)
        return [detector.detect(np.asarray(bgr, np.uint8)) for bgr in colours]

    return find


def _decoded(cells: Floats, shape: tuple[int, ...]) -> list[Detection]:
    """The faces of one picture from its cells' outputs, float32 [cells, 15]."""
    maps = []
    for stride in STRIDES:
        rows, columns = shape[0] // stride, shape[1] // stride
        maps.append(cells[: rows * columns].reshape(rows, columns, -1))
        cells = cells[rows * columns :]
    return decode([m[..., 0] for m in maps], [m[..., 1:] for m in maps], LEAST_SCORE)
