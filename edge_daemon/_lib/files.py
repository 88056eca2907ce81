"""Checksums of files, and writes that survive a power cut."""

import hashlib
import os
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, expected: str) -> str | None:
    """Why a file differs from its SHA-256 in a manifest; None if it does not."""
    try:
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
