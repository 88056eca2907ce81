"""Frames from still images: one file, or all in a folder."""

import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edge_daemon.capture.base import CapturedFrame, SourceKind
from edge_daemon.capture.image_decoding import (
    HEIC_HINT,
    HEIC_SUFFIXES,
    JPEG_START,
    PNG_START,
    READABLE_IMAGE_SUFFIXES,
    ImageError,
    Still,
    read_still,
)
from edge_daemon.errors import SourceError

logger = logging.getLogger(__name__)

STILL_LIKE_SUFFIXES: Final = frozenset({".apng", ".mjpeg", ".mjpg"})
"""Videos whose first bytes are those of a still image."""

IGNORED_NAMES: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
"""Files that Windows leaves in folders, in lower case; names with a leading dot are ignored too."""

IMAGE_INTERVAL_S: Final = 1.0
"""Seconds between two images on the source's time line."""

MAX_NAMED: Final = 10
"""Files that the log names one by one; then it counts them, and names them at debug level."""


class FileVersion(NamedTuple):
    """What changes when a file is written again or replaced."""

    inode: int
    size: int
    mtime_ns: int


class ImageFile:
    """One image. It can repeat, so its pixels are kept for as long as the file stays the same."""

    kind = SourceKind.IMAGE
    is_live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._version: FileVersion | None = None
        self._still: Still | None = None

    def open(self) -> "ImageReader":
        """Decode it, to find damage at once.

        Raises:
            SourceError: it cannot be decoded.
        """
        return ImageReader(_captured(self._read(), self._path))

    def _read(self) -> Still:
        version = _version_of(self._path)
        if self._still is None or version is None or version != self._version:
            self._still, self._version = read_still(self._path), version
            if self._still.images > 1:
                _log_several(self._path, self._still.images, logging.WARNING)
        return self._still


def _version_of(path: Path) -> FileVersion | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return FileVersion(found.st_ino, found.st_size, found.st_mtime_ns)


def _captured(still: Still, file: Path, number: int = 0) -> CapturedFrame:
    """A file's image as the frame with this number of its source."""
    return CapturedFrame(
        still.bgr,
        number * IMAGE_INTERVAL_S,
        number,
        file=file.name,
        reduction=still.reduction,
    )


def _log_several(file: Path, images: int, level: int) -> None:
    extra = {"file": str(file), "of": images}
    logger.log(level, "several images in a file, reading the first", extra=extra)


class ImageReader:
    """Gives one frame."""

    def __init__(self, captured: CapturedFrame) -> None:
        self._captured: CapturedFrame | None = captured

    def read(self) -> CapturedFrame | None:
        captured, self._captured = self._captured, None
        return captured

    def close(self) -> None:
        """Nothing is open."""


class ImageFolder:
    """The images of a folder, in the order of their names. Each is a scene of its own."""

    kind = SourceKind.FOLDER
    is_live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._log_level = logging.WARNING

    def open(self) -> "FolderReader":
        """List it. Problems are logged as warnings by the first reader only: a folder can repeat.

        Raises:
            SourceError: it cannot be read, or holds no image.
        """
        content = list_folder(self._path)
        level, self._log_level = self._log_level, logging.DEBUG
        if content.unsupported:
            extra = {"source": self.name, "files": _enumerated(content.unsupported)}
            logger.log(level, "unsupported files skipped", extra=extra)
        if content.subfolders:
            count = {"source": self.name, "folders": len(content.subfolders)}
            logger.log(level, "subfolders not read", extra=count)
        return FolderReader(self.name, content.images, len(content.unsupported), level)


class FolderReader:
    """Reads image after image; names and counts those that cannot be decoded.

    Args:
        name: the source's name.
        files: the images.
        unsupported: other files next to them, for the summary at the end.
        log_level: of what is skipped.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        unsupported: int,
        log_level: int,
    ) -> None:
        self._name = name
        self._log_level = log_level
        self._files = files
        self._unsupported = unsupported
        self._next = 0
        self._skipped = 0
        self._several = 0

    def read(self) -> CapturedFrame | None:
        """Decode the next image; None at the end.

        Raises:
            SourceError: no image at all could be decoded.
        """
        while self._next < len(self._files):
            number, path = self._next, self._files[self._next]
            self._next += 1
            try:
                still = read_still(path)
            except ImageError as error:
                self._skip(error)
            else:
                self._note_images(path, still.images)
                return _captured(still, path, number)
        self._summarize()
        return None

    def close(self) -> None:
        """Nothing stays open between two images."""

    def _skip(self, error: ImageError) -> None:
        self._skipped += 1
        if self._skipped == MAX_NAMED + 1:
            extra = {"source": self._name}
            logger.log(self._log_level, "more images skipped, counting them only", extra=extra)
        level = self._log_level if self._skipped <= MAX_NAMED else logging.DEBUG
        logger.log(level, "image skipped", extra={"error": str(error)})

    def _note_images(self, path: Path, images: int) -> None:
        if images > 1:
            self._several += 1
            level = self._log_level if self._several <= MAX_NAMED else logging.DEBUG
            _log_several(path, images, level)

    def _summarize(self) -> None:
        if self._skipped == len(self._files):
            raise SourceError(f"{self._name}: none of its {self._skipped} images can be decoded")
        if self._skipped or self._unsupported:
            extra = {
                "source": self._name,
                "skipped": self._skipped,
                "of": len(self._files),
                "unsupported": self._unsupported,
            }
            logger.log(self._log_level, "images skipped in total", extra=extra)


class FolderContent(NamedTuple):
    """The files of a folder, without those that no one put there as content."""

    images: list[Path]
    """With an image's suffix, in the order of their names."""
    unsupported: list[Path]
    """Other regular files, and images that this installation cannot decode."""
    subfolders: list[Path]
    """In the order of their names."""


def list_folder(folder: Path) -> FolderContent:
    """List a folder's images by their suffixes, and the files next to them.

    Raises:
        SourceError: it cannot be read, or holds no image.
    """
    suffixes = READABLE_IMAGE_SUFFIXES if _has_heic() else READABLE_IMAGE_SUFFIXES - HEIC_SUFFIXES
    try:
        with os.scandir(folder) as entries:
            content = [entry for entry in entries if _is_content(entry.name)]
    except OSError as error:
        raise SourceError(f"{folder}: {error.strerror}") from error
    images, unsupported, subfolders = [], [], []
    # By names, since paths take ten times as long to sort. Entries mostly know what they are.
    for entry in sorted(content, key=lambda entry: entry.name):
        path = folder / entry.name
        if _holds(entry.is_dir):
            subfolders.append(path)
        if path.suffix.lower() in suffixes:
            images.append(path)
        elif _holds(entry.is_file):
            unsupported.append(path)
    if not images:
        found = f", but {_enumerated(unsupported)}" if unsupported else ""
        if subfolders:
            found = f"{found or ', but'} {len(subfolders)} subfolders; name one of them, such as "
            found += str(subfolders[0])
        raise SourceError(f"{folder}: no image in this folder{found}")
    return FolderContent(images, unsupported, subfolders)


def _is_content(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in IGNORED_NAMES


def _holds(question: Callable[[], bool]) -> bool:
    """The answer of a folder's entry; False where it has none."""
    try:
        return question()
    except OSError:  # such as a link to itself
        return False


def _has_heic() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def _enumerated(files: Sequence[Path]) -> str:
    """The files' names, or the first ones and how many there are; a hint if HEIC is among them."""
    names = ", ".join(path.name for path in files[:MAX_NAMED])
    more = f" … ({len(files)} files)" if len(files) > MAX_NAMED else ""
    needs_heic = any(path.suffix.lower() in HEIC_SUFFIXES for path in files) and not _has_heic()
    return f"{names}{more}{f'; for HEIC: {HEIC_HINT}' if needs_heic else ''}"


def is_still(path: Path) -> bool:
    """Whether the first bytes are those of JPEG, PNG, WebP or BMP: FFmpeg plays them as a video."""
    if path.suffix.lower() in STILL_LIKE_SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    is_webp = start.startswith(b"RIFF") and start.endswith(b"WEBP")
    is_bmp = start.startswith(b"BM") and start[6:10] == bytes(4)
    return is_webp or is_bmp or start.startswith((JPEG_START, PNG_START))
