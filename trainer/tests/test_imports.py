"""Commands that need no training library start without one."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_daemon._lib.files import bundled_models

PROGRAM = """
import sys
from emotion_trainer.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as error:
    code = error.code
print("imported:", *sorted({"keras", "tensorflow", "torch", "mlflow"} & sys.modules.keys()))
sys.exit(code)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["prepare", "--data", "SHEETS"],
        ["evaluate", "MODELS", "--data", "SHEETS"],
        ["evaluate", "MODELS", "--data", "SHEETS", "--split", "stratified"],
        ["evaluate", "MODELS/resnet_s_int8.tflite", "--data", "SHEETS"],
        ["predict", "PHOTO", "--out", "OUT"],
        ["detector", "compare", "PHOTOS", "--teacher", "DAMAGED"],
    ],
    ids=["help", "prepare", "evaluate-bundle", "leak", "evaluate-tflite", "predict", "compare"],
)
def test_command_without_training_imports_no_training_library(
    words: list[str], place: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), np.full((64, 64, 3), 90, np.uint8))
    (tmp_path / "damaged.onnx").write_bytes(b"no network")
    expected = 1 if {"DAMAGED", "stratified"} & set(words) else 0
    paths = {
        "DAMAGED": tmp_path / "damaged.onnx",
        "SHEETS": place / "sheets",
        "MODELS": bundled_models(),
        "PHOTOS": photos,
        "PHOTO": photos / "a.png",
        "OUT": tmp_path / "out",
    }
    for name, path in sorted(paths.items(), reverse=True):
        words = [word.replace(name, str(path)) for word in words]
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.parametrize("name", ["best.keras", "damaged.keras"])
def test_evaluate_keras_model_refused_prints_one_line(
    name: str, place: Path, tmp_path: Path
) -> None:
    """Though Keras is imported: to read the run's record, or to load the file."""
    (tmp_path / "damaged.keras").touch()
    path = place / "run" / name if name == "best.keras" else tmp_path / name
    words = ["evaluate", str(path), "--data", str(place / "sheets"), "--split", "stratified"]
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert line.startswith("emotion-trainer: ")
