"""Arguments of several commands, whose types report an invalid value in one line."""

import argparse
from collections.abc import Callable
from pathlib import Path

from edge_daemon.errors import SettingsError


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
        type=Path,
        metavar="FILE",
        help="face detector: YuNet as ONNX, or a detector.json (default: the daemon's)",
    )
