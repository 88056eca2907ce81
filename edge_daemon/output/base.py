"""The files that a run writes: complete under their name, or absent."""

import contextlib
import fcntl
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

    A file of that name is replaced in one step, so that a reader never finds half a file. It is
    locked before it is written, so that two runs do not mix their contents.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        name = f".{path.name}.part"
        if not has_valid_length(name):
            name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.part"
        self.partial = path.with_name(name)
        self._lock: int | None = None

    def lock(self, *, waits: bool = False) -> None:
        """Create the file, if it is not there, and lock it until it is complete.

        Args:
            waits: whether to wait for another run that has locked it.

        Raises:
            OutputError: another run writes the file.
            OSError: it cannot be created.
        """
        self._unlock()
        while self._lock is None:
            descriptor = os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            except BlockingIOError as error:
                os.close(descriptor)
                raise OutputError(
                    f"{self.path}: another run writes this file; name another one, or end that run"
                ) from error
            except OSError:  # a network's file system without locks
                self._lock = descriptor
                return
            if self._is_at_its_name(descriptor):
                self._lock = descriptor
            else:  # the other run has just renamed or removed it
                os.close(descriptor)

    @property
    def is_locked(self) -> bool:
        return self._lock is not None

    def _is_at_its_name(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.partial.stat())
        except FileNotFoundError:
            return False

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def complete(self, *, keeps_earlier: bool = False) -> None:
        """Give the file its name.

        Args:
            keeps_earlier: whether to rename an earlier file of that name, instead of replacing it.
        """
        if keeps_earlier and self.path.exists():
            rename_to_number(self.path, self.path)
        self.partial.replace(self.path)
        self._unlock()

    def discard(self) -> None:
        """Remove the file, unless another run writes it."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self.partial.unlink(missing_ok=True)
            self._unlock()


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
        file.lock(waits=True)
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
