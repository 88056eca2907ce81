"""TFLite inference of one model."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.tflite import first_line, open_interpreter, read_model
from edge_daemon.errors import BundleError
from edge_daemon.records import CROP_SIDE, EMOTIONS, Image


class BatchModel:
    """One model with memory for one batch size.

    Resizing an interpreter's input rebuilds its kernels, so each batch size has its own.

    Args:
        path: the `.tflite` file.
        batch: faces per batch.
        threads: threads of the kernels.
        content: content of the file, if already read.

    Raises:
        BundleError: the model does not run, or has another input or output.
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
            self._interpreter.invoke()  # some damage only appears here
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{path}: not a usable model: {first_line(error)}") from error
        self._check_interface(path, batch)

    def logits(self, faces: Image) -> NDArray[np.float32]:
        """float32 [n, 7] logits of uint8 [n, 48, 48] grey crops; n is at most the batch."""
        count = len(faces)
        # Copied into the interpreter's memory; unused rows keep old data, which is ignored.
        self._interpreter.tensor(self._input)()[:count, :, :, 0] = faces
        self._interpreter.invoke()
        return np.array(self._interpreter.tensor(self._output)()[:count], np.float32)

    def _check_interface(self, path: Path, batch: int) -> None:
        inputs = self._interpreter.get_input_details()[0]
        outputs = self._interpreter.get_output_details()[0]
        if inputs["dtype"] != np.uint8 or outputs["dtype"] != np.float32:
            raise BundleError(f"{path}: must have uint8 input and float32 output")
        if list(outputs["shape"]) != [batch, len(EMOTIONS)]:
            raise BundleError(f"{path}: must output {len(EMOTIONS)} logits per face")
