"""Comparison of face detectors on whole photos and on clips.

The reference is the labels of a folder. A folder without labels is labelled by the teacher.
Detectors run as in the daemon: on a picture whose longer side is at most `max_side`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.detection import Detector
from edge_daemon.detection.step import reduced
from edge_daemon.records import Detection, Image
from emotion_trainer.detector.evaluation import Judged, judge_pictures
from emotion_trainer.detector.faces import Faces, Floats, faces_from
from emotion_trainer.detector.photos import has_labels, part_of, read_labels
from emotion_trainer.errors import DataError

WIDTHS: Final = (12.0, 16.0, 24.0, 48.0, np.inf)
"""Pixels: the rows of the table."""
FROM_16: Final = (16.0, np.inf)
OVERLAP: Final = 0.4
"""Intersection over union from which two boxes are of the same face: tiny boxes are inexact."""
DOUBTFUL_SCORE: Final = 0.3
"""The teacher's detections between this and its start score are ignored."""
PICTURES: Final = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
CLIPS: Final = {".mp4", ".avi", ".mkv", ".mov", ".webm"}
COLOURS: Final = {"found": (90, 200, 60), "missed": (40, 40, 230), "false": (0, 200, 255)}
IGNORED_COLOUR: Final = (150, 150, 150)


@dataclass(frozen=True)
class Sample:
    """A picture, BGR uint8 [H, W, 3], and the faces of the reference in it."""

    name: str
    bgr: Image
    faces: Faces


@dataclass(frozen=True)
class Result:
    """What one detector found in all samples.

    Attributes:
        found: the detections of each sample.
        judged: how they match the reference.
        seconds: processor time of the detector, all samples together.
    """

    found: list[list[Detection]]
    judged: Judged
    seconds: float

    @property
    def false_positives(self) -> int:
        """Detections that are no face of the reference."""
        return int((~self.judged.right).sum())

    @property
    def overlap(self) -> float:
        """Mean intersection over union with the faces that were found."""
        return _mean(self.judged.overlaps)

    @property
    def landmark_error(self) -> float:
        """Mean distance of the landmarks in parts of the face's size."""
        return _mean(self.judged.landmark_errors)

    def recall(self, low: float, high: float) -> tuple[int, int]:
        """Faces found and faces present, of widths in pixels from `low` to below `high`."""
        widths = self.judged.truth.boxes[:, 2]
        found = self.judged.found[(widths >= low) & (widths < high)]
        return int((found > 0).sum()), len(found)


def compare(
    samples: Sequence[Sample], detectors: Mapping[str, Detector], max_side: int
) -> dict[str, Result]:
    """Run detectors on all samples."""
    return {name: _run(samples, detector, max_side) for name, detector in detectors.items()}


def table(results: Mapping[str, Result]) -> str:
    """The figures of all detectors as a Markdown table."""
    lines = [f"| | faces | {' | '.join(results)} |", f"| --- | ---: |{' ---: |' * len(results)}"]
    for low, high in (*pairwise(WIDTHS), FROM_16):
        counts = [result.recall(low, high) for result in results.values()]
        name = (
            f"recall, {low:g} to {high:g} px" if np.isfinite(high) else f"recall, from {low:g} px"
        )
        shares = (f"{found / total:.3f}" if total else "" for found, total in counts)
        lines.append(f"| {name} | {counts[0][1]} | {' | '.join(shares)} |")
    rows: dict[str, Callable[[Result], str]] = {
        "false positives": lambda result: str(result.false_positives),
        "mean overlap": lambda result: f"{result.overlap:.3f}",
        "landmark error, in face sizes": lambda result: f"{result.landmark_error:.3f}",
        "processor time, ms a picture": lambda r: f"{1e3 * r.seconds / max(1, len(r.found)):.1f}",
    }
    for name, value in rows.items():
        lines.append(f"| {name} | | {' | '.join(map(value, results.values()))} |")
    return "\n".join(lines)


def load_samples(
    folder: Path, teacher: Detector, *, test_only: bool, interval: int
) -> list[Sample]:
    """The pictures of a folder.

    Args:
        folder: photos with `labels.json`, WIDER FACE, or any photos and clips.
        teacher: labels photos and clips that have no labels.
        test_only: of labelled photos, those that training never uses.
        interval: frames of a clip from one sample to the next.

    Raises:
        DataError: the labels are damaged, a file cannot be read, or there is none.
    """
    samples = list(_samples(folder, teacher, test_only=test_only, interval=interval))
    if not samples:
        if test_only and has_labels(folder):
            raise DataError(f"{folder}: holds no photo of the test part; add --all")
        raise DataError(f"{folder}: holds no photo or clip; name a folder with some")
    return samples


def _samples(
    folder: Path, teacher: Detector, *, test_only: bool, interval: int
) -> Iterator[Sample]:
    if has_labels(folder):
        for name, faces in read_labels(folder):
            if not test_only or part_of(name) == "test":
                yield Sample(name, _read(folder / name), faces)
        return
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES:
            bgr = _read(path)
            yield Sample(path.name, bgr, _labelled(bgr, teacher))
        elif path.suffix.lower() in CLIPS:
            for index, bgr in enumerate(_frames(path)):
                if index % interval == 0:
                    yield Sample(f"{path.stem}-{index:05}", bgr, _labelled(bgr, teacher))


def write_misses(samples: Sequence[Sample], result: Result, folder: Path, count: int) -> list[Path]:
    """Write the pictures with the most misses and false positives, worst first, as JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        judge_pictures([found], [sample.faces], OVERLAP)
        for sample, found in zip(samples, result.found, strict=True)
    ]
    cost = np.array([_visible_misses(part) + 2 * (~part.right).sum() for part in parts])
    paths: list[Path] = []
    for index in np.argsort(-cost, kind="stable")[:count]:
        if cost[index]:
            sample = samples[index]
            path = folder / f"{len(paths):02}-{Path(sample.name).stem}.jpg"
            cv2.imwrite(str(path), _drawn(sample, parts[index]))
            paths.append(path)
    return paths


def _run(samples: Sequence[Sample], detector: Detector, max_side: int) -> Result:
    found, seconds = [], 0.0
    for sample in samples:
        picture = reduced(sample.bgr, max_side)
        started = time.process_time()
        detections = detector.detect(picture)
        seconds += time.process_time() - started
        scale = sample.bgr.shape[1] / picture.shape[1]
        kept = [d for d in detections if d.score >= detector.start_score]
        found.append([detection.enlarged(scale) for detection in kept])
    judged = judge_pictures(found, [sample.faces for sample in samples], OVERLAP)
    return Result(found, judged, seconds)


def _labelled(bgr: Image, teacher: Detector) -> Faces:
    detections = [d for d in teacher.detect(bgr) if d.score >= DOUBTFUL_SCORE]
    boxes = np.array([d.box for d in detections], np.float32).reshape(-1, 4)
    marks = [d.landmarks for d in detections if d.landmarks is not None]
    faces = faces_from(boxes, np.array(marks, np.float32) if len(marks) == len(boxes) else None)
    doubtful = np.array([d.score < teacher.start_score for d in detections], np.bool_)
    return replace(faces, doubtful=doubtful)


def _read(path: Path) -> Image:
    bgr = cv2.imread(str(path))
    if bgr is None:
        raise DataError(f"{path}: cannot be read as a picture")
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


def _visible_misses(judged: Judged) -> int:
    missed = judged.found == 0
    return int((missed & (judged.truth.boxes[:, 2] >= WIDTHS[0])).sum())


def _drawn(sample: Sample, judged: Judged) -> Image:
    """The picture with the reference's faces, ignored boxes and false positives."""
    image = sample.bgr.copy()
    for box in sample.faces.boxes[sample.faces.doubtful]:
        _rectangle(image, box, IGNORED_COLOUR)
    for box, score in zip(judged.truth.boxes, judged.found, strict=True):
        _rectangle(image, box, COLOURS["found" if score else "missed"])
    for detection, is_right in zip(judged.counted, judged.right, strict=True):
        if not is_right:
            _rectangle(image, np.array(detection.box), COLOURS["false"])
    return image


def _rectangle(image: Image, box: Floats, colour: tuple[int, int, int]) -> None:
    x, y, w, h = (round(float(value)) for value in box)
    cv2.rectangle(image, (x, y), (x + w, y + h), colour, 1)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
