"""Files that a run writes: complete under their own name, or not there at all."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

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
        """Remove what is incomplete. Never raises."""
        ...


class PartialFile:
    """A file under a temporary name, which takes its own name when it is complete.

    A file of that name is replaced in one step, so that a reader never finds half a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.part")

    def complete(self) -> None:
        self.partial.replace(self.path)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self.partial.unlink(missing_ok=True)


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
