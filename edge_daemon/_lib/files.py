"""Files: checksums, writes that survive a power cut, and paths of the bundled models."""

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Final


def bundled_models() -> Path:
    """The folder in the package, or next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def bundled_detector() -> Path:
    """The manifest of the bundled face detector."""
    return bundled_models() / "detector.json"


MAX_FILE_BYTES: Final = 256 * 1024 * 1024
"""Size of a model; the largest published face detectors have about 100 MB."""


def require_regular(path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Refuse what blocks or never ends when it is read, such as a FIFO or /dev/zero.

    Raises:
        OSError: the path is missing, not a regular file, or too large.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if found.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))


def read_regular(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `require_regular`, or it cannot be read.
    """
    require_regular(path)
    return path.read_bytes()


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, expected: str) -> str | None:
    """Why a file differs from its SHA-256 in a manifest; None if it does not."""
    try:
        require_regular(path)
        found = sha256_of(path)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"
    if found == expected:
        return None
    return f"{path}: wrong sha256 (got {found[:12]}…, the manifest has {expected[:12]}…)"


def sync(path: Path) -> None:
    """Write a file's content, or a folder's entries, to the disk.

    Raises:
        OSError: the path does not exist, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
