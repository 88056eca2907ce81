"""Outputs of models for faces: logits and probabilities, float32 [N, 7]."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.inference.bundle import MANIFEST_NAME
from edge_daemon.inference.ensemble import BatchModel, EmotionEnsemble, log_softmax
from emotion_trainer.errors import TrainingError
from emotion_trainer.keras_import import import_keras

if TYPE_CHECKING:
    import keras

Faces = NDArray[np.uint8]
Scores = NDArray[np.float32]
KERAS_BATCH: Final = 256
TFLITE_BATCH: Final = 8
RECORD_NAME: Final = "run.json"
"""Of a run, in its folder."""


def is_bundle(path: Path) -> bool:
    """Whether it is a folder with a bundle's manifest."""
    return (path / MANIFEST_NAME).exists()


def is_run(path: Path) -> bool:
    """Whether it is a folder with a run's record."""
    return (path / RECORD_NAME).exists()


def probabilities_of(model: Path, faces: Faces) -> Scores:
    """Probabilities by a `.keras` or `.tflite` file, or by a bundle's folder.

    A bundle is run by the daemon's own ensemble.

    Raises:
        BundleError, TrainingError: what `model` names is missing or damaged.
    """
    if model.suffix in (".keras", ".tflite"):
        return np.exp(log_softmax(logits_of(model, faces)))
    return EmotionEnsemble.load(model).predict(faces)


def logits_of(model: Path, faces: Faces) -> Scores:
    """Logits by a `.keras` or `.tflite` file.

    Raises:
        BundleError, TrainingError: the file is missing or damaged.
    """
    if model.suffix == ".keras":
        return keras_logits(load_keras(model), faces)
    return tflite_logits(model, faces)


def keras_logits(model: "keras.Model", faces: Faces) -> Scores:
    """Logits of a Keras model for uint8 [N, 48, 48] grey faces."""
    pixels = faces[..., np.newaxis].astype(np.float32)
    logits: Scores = model.predict(pixels, batch_size=KERAS_BATCH, verbose=0)
    return logits


def tflite_logits(path: Path, faces: Faces, batch: int = TFLITE_BATCH) -> Scores:
    """Logits of a TFLite file for uint8 [N, 48, 48] grey faces, by the daemon's own runtime.

    Raises:
        BundleError: the file is missing, or does not take pixels and give seven logits.
    """
    model = BatchModel(path, batch, threads=1)
    parts = (faces[start : start + batch] for start in range(0, len(faces), batch))
    return np.concatenate([model.logits(part) for part in parts])


def load_keras(path: Path) -> "keras.Model":
    """Load a `.keras` file.

    Raises:
        TrainingError: it is missing or damaged.
    """
    import_keras()
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{path}: cannot be loaded: {reason}") from error
