"""Known faces composed into larger frames: what the path through detector and crop costs.

Run as a program, it prints the table for all detectors over all of PublicTest:

    python -m benchmarks.composition FER2013 YUNET.onnx
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import public_test
from edge_daemon import EmotionEnsemble
from edge_daemon._lib.files import bundled_detector
from edge_daemon.config.settings import QualitySettings, TrackingSettings
from edge_daemon.detection import Detector
from edge_daemon.detection.bundled import BundledDetector
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.step import FaceFinder
from edge_daemon.detection.yunet import YuNetDetector
from edge_daemon.inference.step import EmotionRecognizer
from edge_daemon.pipeline import Busy, Chain, Pipeline, Stage, compose
from edge_daemon.records import FaceEmotion, Frame, FrameResult, Image
from edge_daemon.tracking.tracker import Tracker

CELL_WIDTH, CELL_HEIGHT = 320, 240
CELLS = list(itertools.product(range(2), range(2)))
SIDES = (48, 64, 96, 128, 160)
MAX_TILT = 15.0
ALL_GOOD = QualitySettings(min_face=0, min_sharpness=0, max_yaw=1e9)


@dataclass(frozen=True)
class Placed:
    """A face and where it was put."""

    number: int
    centre: tuple[float, float]
    side: int


def compose_frames(faces: Image, rng: np.random.Generator) -> Iterator[tuple[Frame, list[Placed]]]:
    """Frames with up to four of the faces each, at random sizes, tilts and places."""
    for index, first in enumerate(range(0, len(faces), len(CELLS))):
        numbers = range(first, min(first + len(CELLS), len(faces)))
        canvas = _background(rng)
        placed = [
            _place(canvas, faces[number], number, cell, rng)
            for number, cell in zip(numbers, CELLS, strict=False)
        ]
        bgr = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR), np.uint8)
        yield Frame(index, index, bgr, datetime.now(UTC), 0.0, float(index)), placed


def _background(rng: np.random.Generator) -> Image:
    """Soft spots of grey."""
    coarse = rng.normal(rng.integers(40, 215), 25, (12, 16)).clip(0, 255).astype(np.uint8)
    size = (2 * CELL_WIDTH, 2 * CELL_HEIGHT)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _place(
    canvas: Image, face: Image, number: int, cell: tuple[int, int], rng: np.random.Generator
) -> Placed:
    side = int(rng.choice(SIDES))
    reach = 0.62 * side  # half a tilted square
    x = cell[1] * CELL_WIDTH + rng.uniform(reach, CELL_WIDTH - reach)
    y = cell[0] * CELL_HEIGHT + rng.uniform(reach, CELL_HEIGHT - reach)
    tilt = rng.uniform(-MAX_TILT, MAX_TILT)
    turn = np.asarray(cv2.getRotationMatrix2D((23.5, 23.5), tilt, side / 48), np.float64)
    turn[:, 2] += (x - 24, y - 24)
    size = (canvas.shape[1], canvas.shape[0])
    mask = cv2.warpAffine(np.full((48, 48), 255, np.uint8), turn, size)
    warped = cv2.warpAffine(face, turn, size, flags=cv2.INTER_CUBIC)
    np.copyto(canvas, warped, where=mask > 127)
    return Placed(number, (x, y), side)


class Composed:
    """A capture of frames from memory."""

    is_live = False
    name = "composed"

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames

    def run(self, put: Callable[[Frame], None], _busy: Busy) -> None:
        for frame in self._frames:
            put(frame)

    def restarted(self) -> "Composed":
        return self

    def abandon(self) -> None:
        """Ends by itself."""


def answers(
    detector: Detector, ensemble: EmotionEnsemble, scenes: list[tuple[Frame, list[Placed]]]
) -> dict[int, int]:
    """What the whole pipeline reads in each face that was detected: face number to emotion."""
    results: list[FrameResult] = []
    tracker = Tracker(TrackingSettings(max_age=1.0), detector.start_score)
    Pipeline(
        Composed([frame for frame, _ in scenes]),
        Chain.of(
            Stage(
                "detection",
                compose(
                    FaceFinder(detector, 640, ALL_GOOD),
                    tracker,
                ),
            )
        )
        .then(Stage("inference", EmotionRecognizer(ensemble)))
        .then(Stage("collecting", results.append)),
    ).run()
    found: dict[int, int] = {}
    for result, (_, placed) in zip(results, scenes, strict=True):
        for known in placed:
            for face in result.faces:
                if _is(face, known) and face.raw is not None:
                    found[known.number] = int(face.raw.argmax())
    return found


def _is(face: FaceEmotion, known: Placed) -> bool:
    return math.dist(face.face.detection.box.centre, known.centre) < 0.3 * known.side


@dataclass(frozen=True)
class Loss:
    """Accuracy on the detected faces: by their original crops, and by the pipeline."""

    detected: int
    original: float
    pipeline: float

    @property
    def points(self) -> float:
        return 100 * (self.original - self.pipeline)


def measure(
    detector: Detector,
    ensemble: EmotionEnsemble,
    faces: Image,
    emotions: NDArray[np.int64],
    seed: int = 0,
) -> Loss:
    """Compose the faces, run the pipeline, and compare with the model fed the originals."""
    scenes = list(compose_frames(faces, np.random.default_rng(seed)))
    found = answers(detector, ensemble, scenes)
    numbers = np.array(sorted(found))
    truth = emotions[numbers]
    original = ensemble.predict(faces[numbers]).argmax(axis=1)
    read = np.array([found[number] for number in numbers])
    return Loss(len(found), float((original == truth).mean()), float((read == truth).mean()))


def main(data: str, yunet: str) -> None:
    faces, emotions = public_test.load(Path(data))
    ensemble = EmotionEnsemble.load()
    detectors = (
        BundledDetector(bundled_detector(), 0.7),
        YuNetDetector(Path(yunet), 0.7),
        HaarDetector(24),
    )
    for detector in detectors:
        loss = measure(detector, ensemble, faces, emotions)
        print(
            f"{detector.name}: {loss.detected} of {len(faces)} detected; accuracy on these "
            f"{100 * loss.original:.1f} % from the original crops, "
            f"{100 * loss.pipeline:.1f} % through the pipeline: {loss.points:.1f} points lost"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
