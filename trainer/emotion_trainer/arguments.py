"""Arguments of several commands, whose types report an invalid value in one line."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_daemon.errors import SettingsError

if TYPE_CHECKING:
    from emotion_trainer.data import Numbering


def existing(name: str) -> Callable[[str], Path]:
    """A file or folder to read, checked before TensorFlow loads, which takes seconds.

    Args:
        name: of the argument.
    """

    def parse(text: str) -> Path:
        path = Path(text)
        if not path.exists():
            raise SettingsError(f"{name}: no such file or folder (got {path}); correct the path")
        return path

    return parse


def output_file(name: str) -> Callable[[str], Path]:
    """A file to write, refused before the work whose result it is to hold.

    Args:
        name: of the argument.
    """

    def parse(text: str) -> Path:
        path = Path(text)
        if path.is_dir():
            raise SettingsError(f"{name}: is a folder (got {path}); name a file")
        _require_writable(name, path.parent)
        return path

    return parse


def output_folder(name: str) -> Callable[[str], Path]:
    """A folder to write to, refused before the work whose results it is to hold.

    Args:
        name: of the argument.
    """

    def parse(text: str) -> Path:
        path = Path(text)
        _require_writable(name, path)
        return path

    return parse


def _require_writable(name: str, folder: Path) -> None:
    """Refuse a folder that is no folder, cannot be created or cannot be written to."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise SettingsError(f"{name}: {nearest} is no folder (got {folder}); correct the path")
    if not os.access(nearest, os.W_OK):
        raise SettingsError(f"{name}: {nearest} is not writable (got {folder}); change its mode")


def positive(name: str) -> Callable[[str], int]:
    """A whole number from 1.

    Args:
        name: of the argument.
    """

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise SettingsError(f"{name}: must be a whole number from 1 (got '{text}')")
        return int(text)

    return parse


def add_detector_model(command: argparse.ArgumentParser) -> None:
    """Add `--detector-model`, which selects another face detector."""
    command.add_argument(
        "--detector-model",
        type=existing("--detector-model"),
        metavar="FILE",
        help="face detector: YuNet as ONNX, or a detector.json (default: the daemon's)",
    )


def add_numbering(command: argparse.ArgumentParser) -> None:
    """Add `--numbering`, for data in folders that are named by numbers."""
    command.add_argument(
        "--numbering",
        choices=["fer2013", "raf-db"],
        help="emotions of folders that are named by numbers: fer2013 0 to 6, raf-db 1 to 7",
    )


def numbering_of(options: argparse.Namespace) -> "Numbering | None":
    """The meaning of numbers as names of folders, where `--numbering` states it."""
    from emotion_trainer.data import Numbering

    return None if options.numbering is None else Numbering(options.numbering)
