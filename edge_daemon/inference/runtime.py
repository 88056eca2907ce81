"""One member of the ensemble, run by TFLite."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.tflite import first_line, open_interpreter, read_model
from edge_daemon.errors import BundleError
from edge_daemon.records import CROP_SIDE, EMOTIONS, Image


class BatchModel:
    """One model with the memory for one batch size.

    Resizing an interpreter's input builds its kernels anew, so each batch size has its own.

    Args:
        path: the `.tflite` file.
        batch: how many faces it takes at once.
        threads: how many threads its kernels use.
        content: the file's, if it was read before.

    Raises:
        BundleError: the file cannot be run, or does not take crops and give seven logits.
    """

    def __init__(self, path: Path, batch: int, threads: int, content: bytes | None = None) -> None:
        try:
            self.content = content or read_model(path)
            self._interpreter = open_interpreter(self.content, threads)
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._output = self._interpreter.get_output_details()[0]["index"]
            shape = [batch, CROP_SIDE, CROP_SIDE, 1]
            self._interpreter.resize_tensor_input(self._input, shape, strict=True)
            self._interpreter.allocate_tensors()
            self._interpreter.invoke()  # some damage shows no earlier
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"{path}: not a model that can be run: {first_line(error)}"
            ) from error
        self._check_interface(path, batch)

    def logits(self, faces: Image) -> NDArray[np.float32]:
        """float32 [n, 7] logits of uint8 [n, 48, 48] grey crops; n is at most the batch."""
        count = len(faces)
        # Straight into the interpreter's memory; what an unused place still holds is not looked at.
        self._interpreter.tensor(self._input)()[:count, :, :, 0] = faces
        self._interpreter.invoke()
        return np.array(self._interpreter.tensor(self._output)()[:count], np.float32)

    def _check_interface(self, path: Path, batch: int) -> None:
        taken = self._interpreter.get_input_details()[0]
        given = self._interpreter.get_output_details()[0]
        if taken["dtype"] != np.uint8 or given["dtype"] != np.float32:
            raise BundleError(f"{path}: must take uint8 and give float32")
        if list(given["shape"]) != [batch, len(EMOTIONS)]:
            raise BundleError(f"{path}: must give {len(EMOTIONS)} logits a face")
