"""The ensemble: several TFLite models in one calibrated distribution."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.files import bundled_models
from edge_daemon._lib.tflite import first_line, open_interpreter, read_model, without_noise
from edge_daemon.errors import BundleError
from edge_daemon.inference.bundle import Bundle, Member, read_bundle
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
            with without_noise():
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


BATCH_SIZES: Final = (8, 4, 2, 1)
"""The largest first. An unused place in a batch costs as much as a face, so none is left: three
faces are two batches."""


class EmotionEnsemble:
    """Classifies the emotions of face crops; create it with `load`.

    Not thread-safe: interpreter buffers are reused.
    """

    def __init__(self, bundle: Bundle, folder: Path, threads: int) -> None:
        self.bundle = bundle
        files = dict.fromkeys(member.file for member in bundle.members)
        self._networks = {file: _BatchedNetwork(folder / file, threads) for file in files}
        self._weights = np.array([member.weight for member in bundle.members], np.float32)
        adjusted = bundle.ensemble.adjustment
        self._adjustment = np.array([adjusted.get(name, 0.0) for name in EMOTIONS], np.float32)

    @classmethod
    def load(cls, folder: Path | str | None = None, threads: int = 1) -> Self:
        """Read a model bundle and build its interpreters.

        Args:
            folder: folder with `bundle.json`; None: the bundled models.
            threads: threads of each model's kernels.

        Raises:
            BundleError: the bundle is missing, damaged, or not of the form this version reads.
        """
        folder = bundled_models() if folder is None else Path(folder)
        return cls(read_bundle(folder), folder, threads)

    def __len__(self) -> int:
        return len(self.bundle.members)

    def predict(self, faces: Image, members: int | None = None) -> NDArray[np.float32]:
        """The probabilities of the emotions in each face.

        Args:
            faces: grey uint8 [N, 48, 48], framed as FER2013's; N may be 0.
            members: number of members to use, in bundle order, at least 1; their weights are
                renormalised, and they have a temperature of their own. None: all.

        Returns:
            float32 [N, 7] in the order of EMOTIONS; each row sums to 1.

        Raises:
            ValueError: the array is of another type or shape, or there are not as many members.
        """
        if faces.dtype != np.uint8 or faces.ndim != 3 or faces.shape[1:] != (CROP_SIDE, CROP_SIDE):
            raise ValueError(
                f"faces: must be uint8 [N, {CROP_SIDE}, {CROP_SIDE}] "
                f"(got {faces.dtype} {list(faces.shape)})"
            )
        if members is not None and not 1 <= members <= len(self):
            raise ValueError(f"members: must be from 1 to {len(self)} (got {members})")
        logs = log_softmax(self._logits(faces, self.bundle.members[:members]))
        temperature = self.bundle.ensemble.temperatures[len(logs) - 1]
        return np.exp(pool(logs, self._weights[:members], self._adjustment, temperature))

    def _logits(self, faces: Image, members: Sequence[Member]) -> NDArray[np.float32]:
        """Logits of each of these members, float32 [M, N, 7].

        Members that differ only in mirroring share a network, which runs once for both inputs.
        """
        logits = np.empty((len(members), len(faces), len(EMOTIONS)), np.float32)
        for file, network in self._networks.items():
            numbers, inputs = [], []
            for number, member in enumerate(members):
                if member.file == file:
                    numbers.append(number)
                    inputs.append(faces[:, :, ::-1] if member.mirrored else faces)
            if inputs:
                outputs = network.logits(np.concatenate(inputs))
                logits[numbers] = outputs.reshape(len(inputs), *logits.shape[1:])
        return logits


def pool(
    logs: NDArray[np.float32],
    weights: NDArray[np.floating],
    adjustment: NDArray[np.floating],
    temperature: float,
) -> NDArray[np.float32]:
    """Combine outputs: a logarithmic opinion pool (Heskes, 1998), adjusted and tempered.

    Args:
        logs: log-probabilities by some or all members, float32 [M, N, 7].
        weights: weight of each of these, [M]; normalised here.
        adjustment: added to each emotion's mean, [7] (logit adjustment, Menon et al., 2021).
        temperature: divides the means; above 1, it reduces confidence (Guo et al., 2017).

    Returns:
        Log-probabilities, float32 [N, 7].
    """
    adjusted = np.einsum("m,mne->ne", weights / weights.sum(), logs) + adjustment
    return log_softmax((adjusted / temperature).astype(np.float32))


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithms of the softmax over the last axis, without overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


class _BatchedNetwork:
    """One network, with an interpreter for each batch size, built at first use."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._threads = threads
        self._models = {1: BatchModel(path, 1, threads)}

    def logits(self, faces: Image) -> NDArray[np.float32]:
        """float32 [N, 7] for uint8 [N, 48, 48]."""
        model = self._models.get(len(faces))
        if model is not None:
            return model.logits(faces)
        logits = np.empty((len(faces), len(EMOTIONS)), np.float32)
        for batch in _batches(len(faces)):
            logits[batch] = self._model(batch.stop - batch.start).logits(faces[batch])
        return logits

    def _model(self, size: int) -> BatchModel:
        if size not in self._models:
            content = self._models[1].content  # the file can have been replaced
            self._models[size] = BatchModel(self._path, size, self._threads, content)
        return self._models[size]


def _batches(count: int) -> Iterator[slice]:
    """Split so many faces into as few full batches as possible."""
    start = 0
    for size in BATCH_SIZES:
        while start + size <= count:
            yield slice(start, start + size)
            start += size
