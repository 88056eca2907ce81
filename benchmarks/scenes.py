"""Frames with as many faces as are wanted, composed from clips.

Each is a grid of cells of one size, so what a frame costs apart from its faces stays the same. A
cell shows a face from a clip at a fixed size; in the cells beyond the number wanted, the face is
blurred away.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from benchmarks.contestants.timing import images
from edge_daemon.detection import Detector
from edge_daemon.detection.alignment import crop_square
from edge_daemon.errors import SourceError
from edge_daemon.records import Detection, Image

COLUMNS, ROWS = 4, 2
CELL_WIDTH, CELL_HEIGHT = 160, 240
MAX_FACES: Final = COLUMNS * ROWS

FACE_SIDE: Final = 88
"""Side of a face's crop in a cell, in pixels."""
FACE_CENTRE: Final = (80, 110)
BLURRED_SIZE: Final = (4, 6)
"""Width and height in pixels, of a cell that has no face any more."""

LENGTH: Final = 60
"""Frames of a scene's clip."""
FPS: Final = 12.5


def write_scenes(
    clips: Sequence[Path], detectors: Sequence[Detector], faces: Sequence[int], folder: Path
) -> dict[int, Path]:
    """A clip for each number of faces.

    Args:
        clips: where the faces come from.
        detectors: a face is used where each of these finds it, and no other one.
        faces: how many are wanted, each at most `MAX_FACES`.
        folder: where to write.

    Raises:
        SourceError: the clips have no face that all detectors find.
        OSError: one cannot be read.
    """
    cells = [cell for clip in clips for cell in _cells(clip, detectors)]
    if not cells:
        raise SourceError("no face in these clips is found by all detectors: name others")
    return {count: _write(cells, count, folder / f"faces-{count}.avi") for count in faces}


def _cells(clip: Path, detectors: Sequence[Detector]) -> Iterator[Image]:
    """Of each image at most one: the face on the left, so that it stays the same for a while."""
    finder = detectors[0]
    for image in images(str(clip)):
        found = _faces(image, finder)
        if not found:
            continue
        leftmost = min(found, key=lambda face: face.box.x)
        cell = _cell(image, leftmost, crop_square(leftmost, finder.framing).side)
        if all(len(_faces(cell, detector)) == 1 for detector in detectors):
            yield cell


def _faces(image: Image, detector: Detector) -> list[Detection]:
    return [face for face in detector.detect(image) if face.score >= detector.start_score]


def _cell(image: Image, detection: Detection, side: float) -> Image:
    scale = FACE_SIDE / side
    x, y = detection.box.centre
    to_cell = np.array(
        [[scale, 0, FACE_CENTRE[0] - scale * x], [0, scale, FACE_CENTRE[1] - scale * y]]
    )
    size = (CELL_WIDTH, CELL_HEIGHT)
    cell = cv2.warpAffine(image, to_cell, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cell, np.uint8)


def _write(cells: Sequence[Image], faces: int, path: Path) -> Path:
    size = (COLUMNS * CELL_WIDTH, ROWS * CELL_HEIGHT)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, size)
    for step in range(LENGTH):
        writer.write(_frame(cells, step, faces))
    writer.release()
    return path


def _frame(cells: Sequence[Image], step: int, faces: int) -> Image:
    """Neighbours are at other times of the clips, so that no two faces are the same."""
    apart = len(cells) // MAX_FACES
    visible = [cells[(step + place * apart) % len(cells)] for place in range(MAX_FACES)]
    visible[faces:] = [_without_face(cell) for cell in visible[faces:]]
    rows = [np.hstack(visible[start : start + COLUMNS]) for start in range(0, MAX_FACES, COLUMNS)]
    return np.vstack(rows)


def _without_face(cell: Image) -> Image:
    blurred = cv2.resize(cell, BLURRED_SIZE, interpolation=cv2.INTER_AREA)
    size = (CELL_WIDTH, CELL_HEIGHT)
    return np.asarray(cv2.resize(blurred, size, interpolation=cv2.INTER_CUBIC), np.uint8)
