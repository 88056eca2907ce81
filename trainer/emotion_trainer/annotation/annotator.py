"""From pictures on disk to their marked copies. One that fails does not keep others from it."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from PIL import Image as Pillow

from edge_daemon.capture.images import IMAGE_SUFFIXES, list_folder, read_image
from edge_daemon.errors import SourceError
from edge_daemon.records import Image
from edge_daemon.schema import within
from emotion_trainer.annotation.drawing import draw
from emotion_trainer.annotation.reading import FaceReader, Reading
from emotion_trainer.errors import PictureError

JPEG_QUALITY: Final = 95


def annotate(paths: Iterable[Path], folder: Path, reader: FaceReader) -> None:
    """Write a marked copy of each picture, and print a line for each face.

    Args:
        paths: pictures, and folders of pictures.
        folder: gets the copies; made if it is not there.
        reader: reads the faces.

    Raises:
        PictureError: something failed; what it was has been told, a line each.
    """
    failures = _Failures()
    files: list[Path] = []
    for path in paths:
        with failures.told():
            files += _pictures(path)
    for file, copy in copies(files, folder).items():
        with failures.told():
            _annotate(file, copy, reader)
    if failures.count:
        raise PictureError(f"{failures.count} of the pictures or folders failed, see above")


class _Failures:
    """Tells of failures when they come, and counts them."""

    count = 0

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except (PictureError, SourceError) as error:
            print(error, file=sys.stderr, flush=True)
            self.count += 1


def _pictures(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return list_folder(path).images
    except OSError as error:
        raise PictureError(f"{path}: cannot be read: {error.strerror}") from error
    if not path.exists():
        raise PictureError(f"{path}: no such file or folder")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        supported = " ".join(sorted(IMAGE_SUFFIXES))
        raise PictureError(f"{path}: unsupported image format; supported are {supported}")
    return [path]


def copies(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """The file of each picture's copy in `folder`; no two are the same.

    A copy has its picture's name. Pictures of one name are told apart by the folders they are in.
    """
    namesakes = defaultdict(list)
    for place, file in {(file.parent.resolve(), file.name): file for file in files}.items():
        namesakes[file.name].append((place[0], file))
    return {
        file: folder / place.relative_to(os.path.commonpath([place for place, _ in group])) / name
        for name, group in namesakes.items()
        for place, file in group
    }


def _annotate(file: Path, copy: Path, reader: FaceReader) -> None:
    if copy.exists() and copy.samefile(file):
        raise PictureError(
            f"{file}: would be overwritten by its copy; give another folder to --out"
        )
    bgr = read_image(file)
    readings = reader.read(bgr)
    _save(draw(bgr, readings), copy)
    if not readings:
        print(f"{file}: no face was found", file=sys.stderr, flush=True)
    for reading in readings:
        print(_line(file, bgr, reading), flush=True)


def _save(picture: Pillow.Image, copy: Path) -> None:
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        picture.save(copy, quality=JPEG_QUALITY)
    except (OSError, ValueError) as error:
        raise PictureError(f"{copy}: cannot be written: {error}") from error


def _line(file: Path, bgr: Image, reading: Reading) -> str:
    """The file, the face's box, its emotion and its probability, and any doubt, between tabs."""
    height, width = bgr.shape[:2]
    box = " ".join(map(str, within(reading.face.detection.box, width, height)))
    fields = [str(file), box, reading.emotion, f"{reading.confidence:.4f}"]
    return "\t".join(fields + ([reading.face.unscored] if reading.face.unscored else []))
