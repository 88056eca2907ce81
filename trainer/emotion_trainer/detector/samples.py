"""Images to measure detectors on, with the faces of a reference.

The reference is the labels of a folder. A folder without labels is labelled by the teacher.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.detection import Detector
from edge_daemon.records import Image
from emotion_trainer.detector.faces import Faces, faces_from
from emotion_trainer.detector.photos import has_labels, read_labels
from emotion_trainer.errors import DataError

DOUBTFUL_SCORE: Final = 0.3
"""The teacher's detections from this score to that of a certain face are ignored."""
IMAGE_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
CLIPS: Final = {".mp4", ".avi", ".mkv", ".mov", ".webm"}


@dataclass(frozen=True)
class Sample:
    """An image, BGR uint8 [H, W, 3], and the faces of the reference in it."""

    name: str
    bgr: Image
    faces: Faces


def load_samples(
    folder: Path, teacher: Detector, min_score: float, *, test_only: bool, interval: int
) -> list[Sample]:
    """The images of a folder.

    Args:
        folder: photos with `labels.json`, WIDER FACE, or any photos and clips.
        teacher: labels photos and clips that have no labels; it must report faces from
            `DOUBTFUL_SCORE` on.
        min_score: of its certain faces.
        test_only: of labelled photos, those that training never uses.
        interval: frames of a clip from one sample to the next.

    Raises:
        DataError: the labels are damaged, a file cannot be read, or there is none.
    """
    samples = list(_samples(folder, teacher, min_score, test_only=test_only, interval=interval))
    if not samples:
        if test_only and has_labels(folder):
            raise DataError(f"{folder}: holds no photo of the test part; add --all")
        raise DataError(f"{folder}: holds no photo or clip; name a folder with some")
    return samples


def _samples(
    folder: Path, teacher: Detector, min_score: float, *, test_only: bool, interval: int
) -> Iterator[Sample]:
    if has_labels(folder):
        for labels in read_labels(folder):
            if not test_only or labels.part == "test":
                bgr = _read(folder / labels.name)
                labels.require_size(bgr, folder / labels.name)
                yield Sample(labels.name, bgr, labels.faces)
        return
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            bgr = _read(path)
            yield Sample(path.name, bgr, _labelled(bgr, teacher, min_score))
        elif path.suffix.lower() in CLIPS:
            for index, bgr in enumerate(_frames(path)):
                if index % interval == 0:
                    faces = _labelled(bgr, teacher, min_score)
                    yield Sample(f"{path.stem}-{index:05}", bgr, faces)


def _labelled(bgr: Image, teacher: Detector, min_score: float) -> Faces:
    detections = [d for d in teacher.detect(bgr) if d.score >= DOUBTFUL_SCORE]
    boxes = np.array([d.box for d in detections], np.float32).reshape(-1, 4)
    marks = [d.landmarks for d in detections if d.landmarks is not None]
    faces = faces_from(boxes, np.array(marks, np.float32) if len(marks) == len(boxes) else None)
    doubtful = np.array([d.score < min_score for d in detections], np.bool_)
    return replace(faces, doubtful=doubtful)


def _read(path: Path) -> Image:
    bgr = cv2.imread(str(path))
    if bgr is None:
        raise DataError(f"{path}: cannot be read as an image")
    return np.asarray(bgr, np.uint8)


def _frames(path: Path) -> Iterator[Image]:
    clip = cv2.VideoCapture(str(path))
    if not clip.isOpened():
        raise DataError(f"{path}: cannot be read as a video")
    try:
        while (read := clip.read())[0]:
            yield np.asarray(read[1], np.uint8)
    finally:
        clip.release()
