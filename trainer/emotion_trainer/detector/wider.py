"""WIDER FACE (Yang et al. 2016): its annotation format.

A text file lists images: the name, the number of faces, and a line for each face with x, y,
width, height, blur, expression, illumination, invalid, occlusion and pose. An image without faces
has one line of zeros. There are no landmarks.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from emotion_trainer.detector.faces import Faces, Floats, faces_from
from emotion_trainer.errors import DataError

ANNOTATIONS: Final = Path("wider_face_split/wider_face_train_bbx_gt.txt")
IMAGES_FOLDER: Final = Path("WIDER_train/images")
HEAVY_BLUR: Final = 2
BLUR, INVALID = 4, 7
COLUMNS: Final = 10
"""Of a face's line."""


def is_wider(folder: Path) -> bool:
    """Whether the folder holds WIDER FACE's training part."""
    return (folder / ANNOTATIONS).is_file()


def read_labels(folder: Path) -> Iterator[tuple[str, Faces]]:
    """The paths of images in the folder and their faces.

    Invalid or heavily blurred faces are doubtful.

    Raises:
        DataError: the file is not in the format.
    """
    path = folder / ANNOTATIONS
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    for name in lines:
        try:
            count = int(next(lines))
            rows = [_numbers(next(lines)) for _ in range(max(1, count))]
        except (StopIteration, ValueError) as error:
            raise DataError(f"{path}: {name}: not in WIDER FACE's format") from error
        yield str(IMAGES_FOLDER / name), _faces(np.stack(rows)[:count])


def _numbers(line: str) -> Floats:
    numbers = np.array(line.split()[:COLUMNS], np.float32)
    if len(numbers) != COLUMNS:
        raise ValueError(f"{len(numbers)} numbers in a face's line")
    return numbers


def _faces(rows: Floats) -> Faces:
    rows = rows[(rows[:, 2] > 0) & (rows[:, 3] > 0)]
    doubtful = (rows[:, INVALID] > 0) | (rows[:, BLUR] >= HEAVY_BLUR)
    return replace(faces_from(rows[:, :4]), doubtful=doubtful)
