"""Annotated copies of images."""

from pathlib import Path
from typing import Final

import cv2

from edge_daemon.errors import OutputError
from edge_daemon.output.annotation.annotation import annotations_of
from edge_daemon.output.annotation.drawing import annotate_picture
from edge_daemon.output.base import replace_file
from edge_daemon.output.options import IMAGE_SUFFIXES
from edge_daemon.records import FrameResult, Image

JPEG_QUALITY: Final = 95


class AnnotatedImages:
    """Writes a copy of each image: a folder's into a folder, under the same names.

    Args:
        path: the copy's file, or the copies' folder, which is created.
        is_folder: which of the two.
    """

    def __init__(self, path: Path, *, is_folder: bool) -> None:
        self.path = path
        self._is_folder = is_folder

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        if frame.file is None:
            return
        file = self.path
        if self._is_folder:
            self.path.mkdir(exist_ok=True)
            file = self.path / copy_name(frame.file)
        write_image(file, annotate_picture(frame.bgr, annotations_of(result)))

    def close(self) -> None:
        """Each file is complete already."""

    def discard(self) -> None:
        """Each file is complete already."""


def copy_name(name: str) -> str:
    """The name of an image's copy: the same, or a JPEG's where the format cannot be written."""
    return name if Path(name).suffix.lower() in IMAGE_SUFFIXES else f"{name}.jpg"


def write_image(path: Path, bgr: Image) -> None:
    """Write a BGR uint8 [H, W, 3] image in the format of the file's suffix, in one step.

    Raises:
        OutputError: OpenCV cannot encode this format or size.
        OSError: it cannot be written.
    """
    try:
        _, content = cv2.imencode(path.suffix, bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    except cv2.error as error:
        raise OutputError(f"{path}: cannot be encoded: {error.err}") from error
    replace_file(path, content.tobytes())
