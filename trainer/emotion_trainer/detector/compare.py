"""Comparison of face detectors on whole photos and on clips.

Detectors run as in the daemon: on an image whose longer side is at most `max_side`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import cv2
import numpy as np

from edge_daemon.detection import Detector
from edge_daemon.detection.step import resize_to_max_side
from edge_daemon.records import Detection
from emotion_trainer.detector.evaluation import Matches, match_images
from emotion_trainer.detector.faces import Floats
from emotion_trainer.detector.samples import Sample

WIDTHS: Final = (12.0, 16.0, 24.0, 48.0, np.inf)
"""Pixels: the rows of the table."""
FROM_16: Final = (16.0, np.inf)
MIN_IOU: Final = 0.4
"""Two boxes with this intersection over union are of the same face; tiny boxes are inexact."""


@dataclass(frozen=True)
class Result:
    """The result of one detector on all samples.

    Attributes:
        found: the detections of each sample.
        matches: how they match the reference.
        seconds: processor time of the detector, all samples together.
    """

    found: list[list[Detection]]
    matches: Matches
    seconds: float

    @property
    def false_positives(self) -> int:
        """Detections that match no face of the reference."""
        return int((~self.matches.right).sum())

    @property
    def mean_iou(self) -> float | None:
        """Mean intersection over union with the faces that were found; None without any."""
        return _mean(self.matches.ious)

    @property
    def landmark_error(self) -> float | None:
        """Mean distance of the landmarks in parts of the face's size; None without any."""
        return _mean(self.matches.landmark_errors)

    def recall(self, low: float, high: float) -> tuple[int, int]:
        """Faces found and faces present, of widths in pixels from `low` to below `high`."""
        widths = self.matches.truth.boxes[:, 2]
        found = self.matches.found[(widths >= low) & (widths < high)]
        return int((found > 0).sum()), len(found)


def compare(
    samples: Sequence[Sample], detectors: Mapping[str, Detector], max_side: int
) -> dict[str, Result]:
    """Run detectors on all samples, with one thread."""
    # As in the daemon: OpenCV's waiting threads would count as processor time.
    cv2.setNumThreads(1)
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
        "mean IoU": lambda result: _cell(result.mean_iou),
        "landmark error, in face sizes": lambda result: _cell(result.landmark_error),
        "processor time, ms an image": lambda r: f"{1e3 * r.seconds / max(1, len(r.found)):.1f}",
    }
    for name, value in rows.items():
        lines.append(f"| {name} | | {' | '.join(map(value, results.values()))} |")
    return "\n".join(lines)


def _run(samples: Sequence[Sample], detector: Detector, max_side: int) -> Result:
    found, seconds = [], 0.0
    for sample in samples:
        image = resize_to_max_side(sample.bgr, max_side)
        started = time.process_time()
        detections = detector.detect(image)
        seconds += time.process_time() - started
        scale = sample.bgr.shape[1] / image.shape[1]
        kept = [d for d in detections if d.score >= detector.start_score]
        found.append([detection.scaled(scale) for detection in kept])
    matches = match_images(found, [sample.faces for sample in samples], MIN_IOU)
    return Result(found, matches, seconds)


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _cell(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"
