"""A small made-up data set that a network can learn in an epoch, in each form."""

import csv
import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_daemon.records import CROP_SIDE, EMOTIONS
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset, Split
from emotion_trainer.data.dataset import VOTES
from emotion_trainer.recipe import Recipe

DAEMON_TESTS = Path(__file__).parents[2] / "tests"

RECIPE = """
seed = 3
[model]
family = "resnet"
stem = 8
stages = [[8, 1], [16, 1]]
[targets]
votes_share = 0.3
[augmentation]
shift = 0.02
[optimisation]
epochs = 4
batch = 32
learning_rate = 0.1
ema_momentum = 0.8
"""

# The FER+ column that means the same as each of EMOTIONS.
VOTE_OF_EMOTION = (4, 5, 6, 1, 3, 2, 0)


def draw_split(faces: int, seed: int) -> Split:
    """Noise with a bright bar whose place encodes the label, and votes that agree with it."""
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


@pytest.fixture(scope="session", autouse=True)
def _untracked() -> Iterator[None]:
    """Tests that are not about tracking do without, and so without its seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        yield


@pytest.fixture(scope="session", autouse=True)
def _exported_on_any_processor() -> Iterator[None]:
    """How a small training ends depends on the processor, and it is less sure than a long one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emotion_trainer.export.int8.TOLERATED_LOST", 10)
        patch.setattr("emotion_trainer.detector.export.MAX_LOSS", 0.2)
        yield


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """A folder with data, a recipe, a finished run and its export."""
    place = tmp_path_factory.mktemp("place")
    write_sheets(dataset, place / "sheets")
    (place / "tiny.toml").write_text(RECIPE)
    data = ["--data", str(place / "sheets")]
    assert main(["train", str(place / "tiny.toml"), "--run", str(place / "run"), *data]) == 0
    assert main(["export", str(place / "run"), *data]) == 0
    return place


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames with one face, drawn as the daemon's tests draw it."""
    drawing = runpy.run_path(str(DAEMON_TESTS / "drawing.py"))
    scene = drawing["draw_scene"]((90, 50, 140))
    path: Path = drawing["write_clip"](tmp_path_factory.mktemp("clip") / "face.mp4", [scene] * 10)
    return path


def subject_of(error: str) -> str:
    """The setting, option or path that the last line on standard error is about."""
    program, subject, _ = error.splitlines()[-1].split(": ", 2)
    assert program == "emotion-trainer"
    return subject


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


def write_unlabelled(images: NDArray[np.uint8], folder: Path) -> None:
    """Faces as a folder of sheets without labels."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "faces_00.png"), _sheet(images))
    (folder / "count.json").write_text(json.dumps({"faces": len(images)}))


def _sheet(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    cells = np.zeros((48 * 48, CROP_SIDE, CROP_SIDE), np.uint8)
    cells[: len(images)] = images
    grid = cells.reshape(48, 48, CROP_SIDE, CROP_SIDE)
    return grid.transpose(0, 2, 1, 3).reshape(48 * CROP_SIDE, 48 * CROP_SIDE)
