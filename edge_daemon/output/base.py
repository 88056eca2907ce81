"""The files that a run writes: complete under their name, or absent."""

import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from edge_daemon.capture import Source, SourceKind
from edge_daemon.errors import OutputError, SettingsError
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
SUMMARY_SUFFIXES: Final = (".html", ".png")


class OutputKind(Enum):
    """What an output is; its value names it in messages."""

    CSV = "a table"
    PARQUET = "a table in Parquet"
    VIDEO = "an annotated video"
    IMAGE = "an annotated image"
    FOLDER = "a folder of annotated images"


SUITABLE: Final = {
    OutputKind.VIDEO: (SourceKind.VIDEO,),
    OutputKind.IMAGE: (SourceKind.IMAGE,),
    OutputKind.FOLDER: (SourceKind.FOLDER, SourceKind.IMAGE),
}
"""Sources of the outputs that hold images; tables suit all."""

REMEDIES: Final = {
    SourceKind.CAMERA: "images of a camera are never written; use a .csv or .parquet file",
    SourceKind.VIDEO: f"name a {', '.join(VIDEO_FORMATS)} file",
    SourceKind.IMAGE: "name an image file, such as annotated.png",
    SourceKind.FOLDER: "name a folder",
}


@dataclass(frozen=True)
class OutputOptions:
    """The options of the command line, not yet checked."""

    outputs: tuple[Path, ...] = ()
    """`--output`: tables, and annotated copies."""
    summaries: tuple[Path, ...] = ()
    """`--summary`: the page, and its image."""
    has_thumbnails: bool = False
    """`--summary-thumbnails`: whether the summary shows faces."""

    def __bool__(self) -> bool:
        return bool(self.outputs or self.summaries)


def check_options(options: OutputOptions, source: Source, *, is_repeated: bool) -> None:
    """Check all options against each other, the source and the file system.

    Args:
        options: what to check.
        source: what the run reads.
        is_repeated: whether a file is repeated without end (`capture.loop`).

    Raises:
        SettingsError: with one line for each problem.
    """
    problems = list(_problems(options, source))
    if options and is_repeated and not source.is_live:
        problems.append("capture.loop: has no end to write a file at (got true); set it to false")
    if problems:
        raise SettingsError(*problems)


def kind_of(path: Path) -> OutputKind | None:
    """What `--output` means by this path: its suffix decides; None if that is unknown."""
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        return OutputKind.FOLDER
    if suffix in VIDEO_FORMATS:
        return OutputKind.VIDEO
    if suffix in WRITABLE_IMAGE_SUFFIXES:
        return OutputKind.IMAGE
    return {".csv": OutputKind.CSV, ".parquet": OutputKind.PARQUET}.get(suffix)


def _problems(options: OutputOptions, source: Source) -> Iterator[str]:
    for path in options.outputs:
        yield from _output_problems(path, source.kind)
        yield from _path_problems("--output", path, source)
    for path in options.summaries:
        if path.suffix.lower() not in SUMMARY_SUFFIXES:
            yield f"--summary: unknown file type (got {path}); name a .html or .png"
        yield from _path_problems("--summary", path, source)
    yield from _duplicates([*options.outputs, *options.summaries])
    if options.has_thumbnails and not options.summaries:
        yield "--summary-thumbnails: requires --summary; add --summary summary.html"
    if options.has_thumbnails and source.kind is SourceKind.CAMERA:
        yield "--summary-thumbnails: images of a camera are never written; leave it out"


def _output_problems(path: Path, source: SourceKind) -> Iterator[str]:
    kind = kind_of(path)
    if kind is None:
        yield (
            f"--output: unknown file type (got {path}); name a .csv, .parquet or "
            f"{' '.join(VIDEO_FORMATS)} file, an image file, or a folder"
        )
    elif source not in SUITABLE.get(kind, tuple(SourceKind)):
        yield (
            f"--output: {kind.value} cannot be made of {source.value} "
            f"(got {path}); {REMEDIES[source]}"
        )


def _path_problems(option: str, path: Path, source: Source) -> Iterator[str]:
    folder = path.parent
    if not folder.is_dir():
        yield f"{option}: no such folder (got {folder}); create it with mkdir -p"
    elif not os.access(folder, os.W_OK):
        yield f"{option}: folder is not writable (got {folder}); name another one"
    elif path.is_dir() and option == "--summary":
        yield f"{option}: is a folder (got {path}); name a file"
    elif not source.is_live and _overwrites(path, Path(source.name)):
        yield f"{option}: would overwrite the source (got {path}); name another path"
    elif path.suffix.lower() == ".png" and _is_in(folder, source):
        yield f"{option}: would be an image of the source (got {path}); name another folder"


def _is_in(folder: Path, source: Source) -> bool:
    return source.kind is SourceKind.FOLDER and folder.samefile(source.name)


def _overwrites(path: Path, source: Path) -> bool:
    return any(target.exists() and target.samefile(source) for target in (path, path / source.name))


def _duplicates(paths: Sequence[Path]) -> Iterator[str]:
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            yield f"--output, --summary: file is named twice (got {path}); name it once"
