"""Checksums of files."""

import hashlib
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
