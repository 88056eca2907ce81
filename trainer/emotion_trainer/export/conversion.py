"""Conversion from Keras to int8 TFLite, which requires TensorFlow.

If Keras uses another backend here, a subprocess with TensorFlow converts the model. It gets model
and faces as files, since a `.keras` file is the same for all backends.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from emotion_trainer.errors import ExportError

Faces = NDArray[np.uint8]
MODEL_NAME: Final = "model.keras"
FACES_NAME: Final = "faces.npy"
CONVERTED_NAME: Final = "model.tflite"
TIMEOUT_S: Final = 3600.0


def convert(model: keras.Model, representatives: Faces) -> bytes:
    """A TFLite file's content, its ranges measured on faces, uint8 [N, 48, 48].

    Raises:
        ExportError: TensorFlow is missing, or cannot convert the model.
    """
    if keras.backend.backend() == "tensorflow":
        return _convert(model, representatives)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / MODEL_NAME)
        np.save(folder / FACES_NAME, representatives)
        _run_tensorflow(folder)
        return (folder / CONVERTED_NAME).read_bytes()


def _run_tensorflow(folder: Path) -> None:
    # This process may have reserved the GPU's memory, and a conversion needs none.
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        subprocess.run(
            [sys.executable, "-m", __name__, str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
        raise ExportError(f"TensorFlow could not convert the model: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"TensorFlow took over {TIMEOUT_S:.0f} s to convert") from error


def _convert(model: keras.Model, representatives: Faces) -> bytes:
    import tensorflow as tf

    def batches() -> Iterator[list[NDArray[np.float32]]]:
        for face in representatives:
            yield [face[np.newaxis, ..., np.newaxis].astype(np.float32)]

    signature = keras.InputSpec("float32", (None, *model.input_shape[1:]))
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        # Without `training`, Keras traces what follows a Resizing layer as in training.
        archive.add_endpoint("serve", partial(model, training=False), [signature])
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = batches
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.float32
        content: bytes = converter.convert()
    return content


def _main(folder: Path) -> None:
    # Keras must know the detector's own layer to load it.
    import emotion_trainer.detector.network  # noqa: F401

    model = keras.models.load_model(folder / MODEL_NAME, compile=False)
    (folder / CONVERTED_NAME).write_bytes(_convert(model, np.load(folder / FACES_NAME)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
