"""Files that block, never end, or are too large when a program reads them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final


def link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 10**9)


UNREADABLE: Final[list[Callable[[Path], None]]] = [os.mkfifo, link_to_zero, Path.mkdir, huge]
UNREADABLE_IDS: Final = ["FIFO", "device", "folder", "huge file"]
