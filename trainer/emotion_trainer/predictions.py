"""What models say of faces: logits from a Keras model or a TFLite file, and their probabilities.

All take faces as uint8 [N, 48, 48] grey and give float32 [N, 7].
"""

from pathlib import Path
from typing import Final

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from edge_daemon.emotions import EMOTIONS
from numpy.typing import NDArray

from emotion_trainer.errors import ExportError

Faces = NDArray[np.uint8]
Scores = NDArray[np.float32]
KERAS_BATCH: Final = 256
TFLITE_BATCH: Final = 8


def keras_logits(model: keras.Model, faces: Faces) -> Scores:
    """Logits of a Keras model."""
    pixels = faces[..., np.newaxis].astype(np.float32)
    logits: Scores = model.predict(pixels, batch_size=KERAS_BATCH, verbose=0)
    return logits


def tflite_logits(path: Path, faces: Faces, batch: int = TFLITE_BATCH) -> Scores:
    """Logits of a TFLite file that takes uint8 pixels, run in batches as the daemon runs it.

    Raises:
        ExportError: the file is missing or is no TFLite model.

    """
    try:
        interpreter = Interpreter(str(path), num_threads=1)
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"{path}: cannot be loaded: {error}") from error
    source = interpreter.get_input_details()[0]["index"]
    sink = interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(source, (batch, *faces.shape[1:], 1))
    interpreter.allocate_tensors()
    logits = np.empty((len(faces), len(EMOTIONS)), np.float32)
    padded = np.zeros((batch, *faces.shape[1:], 1), np.uint8)
    for start in range(0, len(faces), batch):
        chosen = faces[start : start + batch]
        padded[: len(chosen), ..., 0] = chosen
        interpreter.set_tensor(source, padded)
        interpreter.invoke()
        logits[start : start + batch] = interpreter.get_tensor(sink)[: len(chosen)]
    return logits


def log_softmax(logits: Scores, temperature: float = 1.0) -> Scores:
    """Log-probabilities of logits (or of log-probabilities) divided by a temperature."""
    cooled = logits / temperature
    cooled = cooled - cooled.max(axis=1, keepdims=True)
    log_probabilities: Scores = cooled - np.log(np.exp(cooled).sum(axis=1, keepdims=True))
    return log_probabilities
