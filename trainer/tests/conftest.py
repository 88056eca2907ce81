"""A small made-up data set that a network can learn in an epoch, in each form."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_daemon.emotions import EMOTIONS
from edge_daemon.records import CROP_SIDE
from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.dataset import VOTES
from emotion_trainer.recipe import Recipe

# The FER+ column that means the same as each of EMOTIONS.
VOTE_OF_EMOTION = (4, 5, 6, 1, 3, 2, 0)


def draw_split(faces: int, seed: int) -> Split:
    """Noise with a bright bar whose place tells the label, and votes that agree with it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(faces) % len(EMOTIONS)
    images = rng.integers(0, 128, (faces, CROP_SIDE, CROP_SIDE), dtype=np.uint8)
    votes = np.zeros((faces, len(VOTES)), np.uint8)
    for image, vote, label in zip(images, votes, labels, strict=True):
        image[label * 6 + 3 : label * 6 + 9] += 127
        vote[VOTE_OF_EMOTION[label]] = 8
        vote[0] += 2
    images[:, 0, 0], images[:, 0, 1] = 0, 255
    return Split(images, labels.astype(np.int64), votes)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return Dataset(training=draw_split(448, seed=1), validation=draw_split(140, seed=2))


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "seed": 3,
            "model": {"family": "resnet", "stem": 8, "stages": [[8, 1], [16, 1]], "dropout": 0.1},
            "targets": {"label_smoothing": 0.05, "votes_share": 0.5},
            "augmentation": {"shift": 0.02, "contrast": 1.1},
            "optimisation": {
                "epochs": 3,
                "batch": 32,
                "learning_rate": 0.1,
                "warmup_epochs": 0.5,
                "weight_decay": 1e-3,
                "ema_momentum": 0.9,
            },
        }
    )


def write_csv(dataset: Dataset, path: Path) -> None:
    """The data set as Kaggle's file, with a row of the held-out split that must not be read."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for usage, split in (("Training", dataset.training), ("PublicTest", dataset.validation)):
            for image, label in zip(split.images, split.labels, strict=True):
                writer.writerow([label, " ".join(map(str, image.ravel())), usage])
        writer.writerow([0, "never read", "PrivateTest"])


def write_sheets(dataset: Dataset, folder: Path) -> None:
    """The data set as sheets: a sheet for each split."""
    folder.mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sheet", "cell", "emotion", *VOTES])
        for name, split in (("training", dataset.training), ("publictest", dataset.validation)):
            sheet = f"{name}_00.png"
            cv2.imwrite(str(folder / sheet), _sheet(split.images))
            for cell, (label, votes) in enumerate(zip(split.labels, split.votes, strict=True)):
                writer.writerow([sheet, cell, label, *votes])


def write_folders(dataset: Dataset, folder: Path) -> None:
    """The data set as PNG files in folders named after their emotions."""
    for part, split in (("train", dataset.training), ("test", dataset.validation)):
        for name in EMOTIONS:
            (folder / part / name).mkdir(parents=True)
        for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            cv2.imwrite(str(folder / part / EMOTIONS[label] / f"{index:04}.png"), image)


def _sheet(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    cells = np.zeros((48 * 48, CROP_SIDE, CROP_SIDE), np.uint8)
    cells[: len(images)] = images
    grid = cells.reshape(48, 48, CROP_SIDE, CROP_SIDE)
    return grid.transpose(0, 2, 1, 3).reshape(48 * CROP_SIDE, 48 * CROP_SIDE)
