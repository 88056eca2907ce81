"""Export to int8 TFLite: int8 kernels, uint8 pixels as input, float32 logits as output.

The input takes unscaled pixels: its quantisation has the scale 1 and the zero point 0, and the
normalisation is part of the graph.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from emotion_trainer.data import Dataset, Split
from emotion_trainer.errors import ExportError
from emotion_trainer.export.conversion import convert
from emotion_trainer.export.equalisation import equalised
from emotion_trainer.models.predictions import Faces, keras_logits, tflite_logits
from emotion_trainer.training.runs import Run

REPRESENTATIVES: Final = 500
MAX_LOSS: Final = 0.005
# On a small split, one or two faces are more than half a point.
TOLERATED_LOST: Final = 2
UNSCALED_PIXELS: Final = (1.0, 0)


@dataclass(frozen=True)
class Agreement:
    """How an int8 file compares with the float model that it comes from, on the same faces."""

    faces: int
    float_accuracy: float
    int8_accuracy: float
    same_prediction: float

    def __str__(self) -> str:
        return (
            f"accuracy float {self.float_accuracy:.4f}, int8 {self.int8_accuracy:.4f}; "
            f"same prediction on {self.same_prediction:.2%} of {self.faces} faces"
        )


def export_run(run: Run, dataset: Dataset) -> Agreement:
    """Export a run's best weights; the file gets its name after it was checked.

    Raises:
        TrainingError: no epoch was finished, or the run's files are damaged.
        ExportError: the int8 file does not predict as its original does.
    """
    model = run.best_model()
    unfinished = run.folder / "unfinished.tflite"
    export_int8(model, dataset.training, run.record().recipe.seed, unfinished)
    agreement = compare(model, unfinished, dataset.validation)
    unfinished.replace(run.int8_path)
    return agreement


def export_int8(model: keras.Model, training: Split, seed: int, path: Path) -> None:
    """Write the model to `path`, its ranges measured on faces drawn from the training split.

    Raises:
        ExportError: the converter chose a quantisation of the input that alters pixels.
    """
    drawn = np.random.default_rng(seed).permutation(len(training))[:REPRESENTATIVES]
    representatives = training.images[drawn]
    content = convert(equalised(model, representatives), representatives)
    details = Interpreter(model_content=content).get_input_details()[0]
    if details["quantization"] != UNSCALED_PIXELS:
        raise ExportError(
            f"the input's scale and zero point are {details['quantization']}, not "
            f"{UNSCALED_PIXELS}; the training faces do not span the grey levels 0 to 255"
        )
    path.write_bytes(content)


def compare(model: keras.Model, path: Path, split: Split) -> Agreement:
    """Compare the int8 file with its original on a split.

    Raises:
        ExportError: it loses more than half a point of accuracy (and more than two faces), or
            predicts differently in batches and face by face.
    """
    original = keras_logits(model, split.images).argmax(axis=1)
    exported = tflite_logits(path, split.images)
    predictions = exported.argmax(axis=1)
    agreement = agreement_of(original, predictions, split.labels)
    lost = int((original == split.labels).sum() - (predictions == split.labels).sum())
    if lost > max(MAX_LOSS * len(split), TOLERATED_LOST):
        raise ExportError(f"{path}: int8 loses too much: {agreement}")
    _check_batching(path, split.images[: len(split) // 10 + 1], exported)
    return agreement


def agreement_of(
    original: NDArray[np.int64], exported: NDArray[np.int64], labels: NDArray[np.int64]
) -> Agreement:
    """From both models' predictions and the labels, each int64 [N]."""
    return Agreement(
        faces=len(labels),
        float_accuracy=float((original == labels).mean()),
        int8_accuracy=float((exported == labels).mean()),
        same_prediction=float((original == exported).mean()),
    )


def _check_batching(path: Path, faces: Faces, batched: NDArray[np.float32]) -> None:
    alone = tflite_logits(path, faces, batch=1)
    if not np.allclose(alone, batched[: len(faces)], atol=1e-5):
        raise ExportError(f"{path}: predicts differently in batches and face by face")
