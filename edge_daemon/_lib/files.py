"""Checksums of files, and writes that survive a power cut."""

import hashlib
import os
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, expected: str) -> str | None:
    """What is wrong with a file that a manifest names by its SHA-256; None: it is the very file."""
    try:
        found = sha256_of(path)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"
    if found == expected:
        return None
    return f"{path}: its sha256 is {found[:12]}…, the manifest says {expected[:12]}…"


def sync(path: Path) -> None:
    """Have a file's content, or a folder's entries, on the disk.

    Raises:
        OSError: it is not there, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
