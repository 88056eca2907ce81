"""The files that a run writes: complete under their name, or absent."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from edge_daemon.errors import OutputError
from edge_daemon.records import FrameResult


class Output(Protocol):
    """A file, or a folder of files, made of a run's results."""

    path: Path

    def write(self, result: FrameResult) -> None:
        """Add a frame's result.

        Raises:
            OSError, OutputError: it cannot be written.
        """
        ...

    def close(self) -> None:
        """Complete the file, also after a run that ended early.

        Raises:
            OSError, OutputError: it cannot be written.
        """
        ...

    def discard(self) -> None:
        """Remove what is incomplete after a failure, or without a frame. Never raises."""
        ...


MAX_NAME_BYTES: Final = 255
"""Length of a file's name on Linux."""


MAX_NUMBER: Final = 999_999
"""Of an earlier file of one name; its digits must fit into the name."""


def has_valid_length(name: str) -> bool:
    """Whether a file can have this name."""
    return len(os.fsencode(name)) <= MAX_NAME_BYTES


class PartialFile:
    """A file under a temporary name, which takes its own name when it is complete.

    A file of that name is replaced in one step, so that a reader never finds half a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        name = f".{path.name}.part"
        if not has_valid_length(name):
            name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.part"
        self.partial = path.with_name(name)

    def complete(self, *, keeps_earlier: bool = False) -> None:
        """Give the file its name.

        Args:
            keeps_earlier: whether to rename an earlier file of that name, instead of replacing it.
        """
        if keeps_earlier and self.path.exists():
            rename_to_number(self.path, self.path)
        self.partial.replace(self.path)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self.partial.unlink(missing_ok=True)


def rename_to_number(file: Path, path: Path) -> Path:
    """Rename a file to the next of `name-1.csv`, `name-2.csv` and so on, for `name.csv` as `path`.

    Raises:
        OSError: it cannot be renamed.
    """
    stem, suffix = path.stem, path.suffix
    while not has_valid_length(f"{stem}-{MAX_NUMBER}{suffix}"):
        stem = stem[:-1]
    pattern = re.compile(rf"{re.escape(stem)}-([0-9]+){re.escape(suffix)}")
    earlier = (pattern.fullmatch(each.name) for each in path.parent.iterdir())
    number = 1 + max((int(found[1]) for found in earlier if found), default=0)
    return file.rename(path.with_name(f"{stem}-{number}{suffix}"))


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file in one step.

    Raises:
        OSError: it cannot be written.
    """
    file = PartialFile(path)
    try:
        file.partial.write_bytes(content)
        file.complete()
    finally:
        file.discard()


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors of writing a file into this program's.

    Raises:
        OutputError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check its disk and permissions"
        ) from error


WRITABLE_IMAGE_SUFFIXES: Final = (".bmp", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Image formats that every build of OpenCV writes."""
VIDEO_FORMATS: Final = MappingProxyType({".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"})
"""FFmpeg's containers by suffix."""
