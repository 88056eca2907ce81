"""Images of a detector's misses and false positives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge_daemon.records import Image
from emotion_trainer.detector.compare import MIN_IOU, WIDTHS, Result
from emotion_trainer.detector.evaluation import Matches, match_images
from emotion_trainer.detector.faces import Floats
from emotion_trainer.detector.samples import Sample

COLOURS: Final = {"found": (90, 200, 60), "missed": (40, 40, 230), "false": (0, 200, 255)}
IGNORED_COLOUR: Final = (150, 150, 150)


def write_misses(samples: Sequence[Sample], result: Result, folder: Path, count: int) -> list[Path]:
    """Write the images with the most misses and false positives, worst first, as JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        match_images([found], [sample.faces], MIN_IOU)
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


def _visible_misses(matches: Matches) -> int:
    missed = matches.found == 0
    return int((missed & (matches.truth.boxes[:, 2] >= WIDTHS[0])).sum())


def _drawn(sample: Sample, matches: Matches) -> Image:
    """The image with the reference's faces, ignored boxes and false positives."""
    image = sample.bgr.copy()
    for box in sample.faces.boxes[sample.faces.doubtful]:
        _rectangle(image, box, IGNORED_COLOUR)
    for box, score in zip(matches.truth.boxes, matches.found, strict=True):
        _rectangle(image, box, COLOURS["found" if score else "missed"])
    for detection, is_right in zip(matches.counted, matches.right, strict=True):
        if not is_right:
            _rectangle(image, np.array(detection.box), COLOURS["false"])
    return image


def _rectangle(image: Image, box: Floats, colour: tuple[int, int, int]) -> None:
    x, y, w, h = (round(float(value)) for value in box)
    cv2.rectangle(image, (x, y), (x + w, y + h), colour, 1)
