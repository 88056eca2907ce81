"""From images on disk to their annotated copies. One that fails does not end the others."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_daemon.capture.image_decoding import READABLE_IMAGE_SUFFIXES, read_image
from edge_daemon.capture.images import list_folder
from edge_daemon.errors import OutputError, SourceError
from edge_daemon.output.base import write_errors
from edge_daemon.output.drawing import Annotation, annotate_image, copy_name, write_image
from edge_daemon.records import Image
from edge_daemon.schema import within
from emotion_trainer.annotation.reading import FaceReader, Reading
from emotion_trainer.errors import AnnotationError


def annotate(paths: Iterable[Path], folder: Path, reader: FaceReader) -> None:
    """Write an annotated copy of each image, and print a line for each face.

    Args:
        paths: images, and folders of images.
        folder: receives the copies; created if needed.
        reader: reads the faces.

    Raises:
        AnnotationError: something failed; each failure has been printed as a line.
    """
    failures = _Failures()
    files: list[Path] = []
    for path in paths:
        with failures.printed():
            files += _images(path)
    for file, copy in copies(files, folder).items():
        with failures.printed():
            _annotate(file, copy, reader)
    if failures.count:
        raise AnnotationError(f"{failures.count} of the images or folders failed, see above")


class _Failures:
    """Prints failures as they occur, and counts them."""

    count = 0

    @contextmanager
    def printed(self) -> Iterator[None]:
        try:
            yield
        except (AnnotationError, SourceError, OutputError) as error:
            print(error, file=sys.stderr, flush=True)
            self.count += 1


def _images(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return list_folder(path).images
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder")
    if path.suffix.lower() not in READABLE_IMAGE_SUFFIXES:
        supported = " ".join(sorted(READABLE_IMAGE_SUFFIXES))
        raise AnnotationError(f"{path}: unsupported image format; supported are {supported}")
    return [path]


def copies(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """The file of each image's copy in `folder`; no two are the same.

    A copy has the name of its image. Where several images have the same name, their copies are in
    subfolders with the names of the images' folders.
    """
    namesakes = defaultdict(list)
    for place, file in {(file.parent.resolve(), file.name): file for file in files}.items():
        namesakes[file.name].append((place[0], file))
    return {
        file: folder
        / place.relative_to(os.path.commonpath([place for place, _ in group]))
        / copy_name(name)
        for name, group in namesakes.items()
        for place, file in group
    }


def _annotate(file: Path, copy: Path, reader: FaceReader) -> None:
    if copy.exists() and copy.samefile(file):
        raise AnnotationError(
            f"{file}: would be overwritten by its copy; give another folder to --out"
        )
    bgr = read_image(file)
    readings = reader.read(bgr)
    with write_errors(copy):
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_image(copy, annotate_image(bgr, [_annotation(reading) for reading in readings]))
    if not readings:
        print(f"{file}: no face was found", file=sys.stderr, flush=True)
    for reading in readings:
        print(_line(file, bgr, reading), flush=True)


def _annotation(reading: Reading) -> Annotation:
    note = (reading.face.unscored or "").replace("_", " ")
    return Annotation(reading.face.detection.box, reading.probabilities, note)


def _line(file: Path, bgr: Image, reading: Reading) -> str:
    """The file, the face's box, its emotion and its probability, and any doubt, between tabs."""
    height, width = bgr.shape[:2]
    box = " ".join(map(str, within(reading.face.detection.box, width, height)))
    fields = [str(file), box, reading.emotion, f"{reading.confidence:.4f}"]
    return "\t".join(fields + ([reading.face.unscored] if reading.face.unscored else []))
