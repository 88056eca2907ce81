"""Arguments that several commands take. A type's error is `PROBLEM (got VALUE); FIX`."""

import argparse
import os
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"
"""The commands of a parser, which take another by `add_parser`."""


def existing_path(text: str) -> Path:
    """A file or folder to read, checked before TensorFlow loads, which takes seconds."""
    path = Path(text)
    if not path.exists():
        raise ArgumentTypeError(f"no such file or folder (got {path}); correct the path")
    return path


def output_file(text: str) -> Path:
    """A file to write, checked before the work whose result it stores."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"is a folder (got {path}); name a file")
    _require_writable(path.parent)
    return path


def output_folder(text: str) -> Path:
    """A folder to write to, checked before the work whose results it stores."""
    path = Path(text)
    _require_writable(path)
    return path


def _require_writable(folder: Path) -> None:
    """Refuse a path that is not a folder, or a folder that cannot be created or written to."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise ArgumentTypeError(f"{nearest} is not a folder (got {folder}); correct the path")
    if not os.access(nearest, os.W_OK):
        raise ArgumentTypeError(f"{nearest} is not writable (got {folder}); change its mode")


def positive_integer(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number from 1 (got '{text}')")
    return int(text)


def add_output_file(command: ArgumentParser, description: str) -> None:
    """Add `--out`, a file."""
    command.add_argument("--out", type=output_file, required=True, metavar="FILE", help=description)


def add_output_folder(command: ArgumentParser, description: str) -> None:
    """Add `--out`, a folder."""
    command.add_argument(
        "--out", type=output_folder, required=True, metavar="DIR", help=description
    )


def add_recipe(command: ArgumentParser) -> None:
    """Add the recipe of a training."""
    command.add_argument("recipe", type=existing_path, metavar="RECIPE", help="a TOML file")


def add_finished_run(command: ArgumentParser) -> None:
    """Add the run to export."""
    command.add_argument("run", type=existing_path, metavar="RUN", help="a folder filled by train")


def add_labelled_faces(command: ArgumentParser, *, required: bool = True) -> None:
    """Add `--data` and, for data in folders that are named by numbers, `--numbering`."""
    command.add_argument(
        "--data",
        type=existing_path,
        required=required,
        metavar="PATH",
        help="Kaggle's fer2013.csv, a folder with labels.csv and its sheets, or a folder with a "
        "folder for each emotion",
    )
    command.add_argument(
        "--numbering",
        choices=["fer2013", "raf-db"],
        help="emotions of folders that are named by numbers: fer2013 0 to 6, raf-db 1 to 7",
    )


def add_dataset(command: ArgumentParser, *, required: bool = True) -> None:
    """Add the labelled faces and `--split`: what `opening.open_dataset_of` opens."""
    add_labelled_faces(command, required=required)
    command.add_argument(
        "--split",
        choices=["official", "stratified"],
        default="official",
        help="validate on the data's own split (the default), or on a stratified 20 %% of Training",
    )


def add_unlabelled(command: ArgumentParser) -> None:
    """Add `--unlabelled`, faces to train on by soft labels alone."""
    command.add_argument(
        "--unlabelled",
        type=existing_path,
        metavar="DIR",
        help="folder of sheets (faces_00.png, …, count.json) of faces without labels, for "
        "soft labels",
    )


def add_detector_model(command: ArgumentParser) -> None:
    """Add `--detector-model`, which selects another face detector."""
    command.add_argument(
        "--detector-model",
        type=existing_path,
        metavar="FILE",
        help="face detector: YuNet as ONNX, or a detector.json (default: the daemon's)",
    )
