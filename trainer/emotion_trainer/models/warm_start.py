"""Continuing from a trained model's weights, also from those of an int8 TFLite file.

In an int8 file, batch normalisation is folded into the convolutions: it scales the kernel and bias
of each output channel. Training such kernels directly fails, since the scales of channels differ a
thousandfold and one learning rate cannot suit all. So they are unfolded: each output channel's
kernel is divided by its norm. A batch normalisation behind it, with the statistics of some hundred
faces, restores the output.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import layers
from numpy.typing import NDArray

from emotion_trainer.errors import RecipeError, TrainingError
from emotion_trainer.models.predictions import load_keras

Array = NDArray[np.float32]
CONVOLUTIONS: Final = (layers.Conv2D, layers.DepthwiseConv2D)
ABSENT: Final = -1
"""Index that stands for a missing optional tensor, such as a bias of zeros."""

STATISTICS_BATCH: Final = 32
STATISTICS_FACES: Final = 512
"""Faces whose activations become the running statistics, drawn from the training faces."""
STATISTICS_SEED: Final = 0

DTYPES: Final[dict[int, type[np.generic]]] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
}


@dataclass(frozen=True)
class FoldedLayer:
    """A convolution or dense layer without normalisation.

    Attributes:
        kernel: float32, in Keras' layout: [H, W, in, out], [H, W, channels, 1] or [in, out].
        bias: float32 [out].
        is_depthwise: whether it is a depthwise convolution.
    """

    kernel: Array
    bias: Array
    is_depthwise: bool = False

    @property
    def scales(self) -> Array:
        """The norm of each output channel's kernel, float32 [out]."""
        axes = (0, 1, 3) if self.is_depthwise else tuple(range(self.kernel.ndim - 1))
        norms: Array = np.sqrt(np.square(self.kernel).sum(axis=axes))
        return np.maximum(norms, np.finfo(np.float32).tiny)

    @property
    def normalised_kernel(self) -> Array:
        """The kernel, divided by `scales`."""
        scales = self.scales[:, np.newaxis] if self.is_depthwise else self.scales
        return self.kernel / scales


def warm_start(model: keras.Model, path: Path, faces: NDArray[np.uint8]) -> None:
    """Give an untrained network the weights of a model of the same architecture.

    Args:
        model: as `families.build` makes it.
        path: a `.keras` file of the trainer, or a TFLite file by its export.
        faces: uint8 [N, 48, 48], of which some give the statistics of normalisation.

    Raises:
        RecipeError: the file is missing, damaged, or of another architecture.
    """
    if path.suffix == ".keras":
        _copy_weights(model, path)
        return
    try:
        folded = list(read_folded(path))
    except OSError as error:
        raise RecipeError(f"start: {path}: cannot read: {error.strerror}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise RecipeError(f"start: {path}: not an int8 model by `export`: {error}") from error
    unfold(model, _assigned(model, folded, path), faces)


def _copy_weights(model: keras.Model, path: Path) -> None:
    try:
        model.set_weights(load_keras(path).get_weights())
    except (TrainingError, ValueError) as error:
        raise RecipeError(f"start: {path}: not a model of this architecture: {error}") from error


def read_folded(path: Path) -> Iterator[FoldedLayer]:
    """Read a TFLite file's convolutions and dense layers, dequantised, in the order of execution.

    Raises:
        OSError, ValueError, KeyError, IndexError: the file is missing or not a model of this form.
    """
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind not in _TO_KERAS:
            continue
        _, kernel_index, bias_index = operator.inputs
        kernel = _TO_KERAS[kind](_dequantised(model, graph.tensors[kernel_index]))
        is_depthwise = kind == schema.BuiltinOperator.DEPTHWISE_CONV_2D
        channels = kernel.shape[2 if is_depthwise else -1]
        yield FoldedLayer(
            kernel=kernel,
            bias=np.zeros(channels, np.float32)
            if bias_index == ABSENT
            else _dequantised(model, graph.tensors[bias_index]),
            is_depthwise=is_depthwise,
        )


_TO_KERAS: Final[dict[int, Any]] = {
    schema.BuiltinOperator.CONV_2D: lambda kernel: kernel.transpose(1, 2, 3, 0),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: lambda kernel: kernel.transpose(1, 2, 3, 0),
    schema.BuiltinOperator.FULLY_CONNECTED: lambda kernel: kernel.transpose(1, 0),
}


def _dequantised(model: schema.ModelT, tensor: schema.TensorT) -> Array:
    values = np.frombuffer(model.buffers[tensor.buffer].data.tobytes(), DTYPES[tensor.type])
    values = values.reshape(tensor.shape).astype(np.float32)
    quantisation = tensor.quantization
    if quantisation is None or quantisation.scale is None:
        return values
    shape = np.ones(values.ndim, np.int64)
    shape[quantisation.quantizedDimension] = -1
    zero_points = quantisation.zeroPoint.reshape(shape).astype(np.float32)
    dequantised: Array = (values - zero_points) * quantisation.scale.reshape(shape)
    return dequantised


def _assigned(
    model: keras.Model, folded: Sequence[FoldedLayer], path: Path
) -> list[tuple[keras.Layer, FoldedLayer]]:
    """Pair the network's layers with the file's: the next one in the file with the same shape.

    A shortcut may stand before or after the convolutions that it bypasses; its kernel is of
    another shape.
    """
    remaining = list(folded)
    pairs = []
    for layer in model.layers:
        if not isinstance(layer, (*CONVOLUTIONS, layers.Dense)):
            continue
        shape = tuple(layer.kernel.shape)
        is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
        found = next(
            (
                one
                for one in remaining
                if one.kernel.shape == shape and one.is_depthwise == is_depthwise
            ),
            None,
        )
        if found is None:
            raise RecipeError(
                f"start: {path}: not a model of this architecture: no kernel for {layer.name} "
                f"{shape}"
            )
        remaining = [one for one in remaining if one is not found]
        pairs.append((layer, found))
    return pairs


def unfold(
    model: keras.Model,
    pairs: Sequence[tuple[keras.Layer, FoldedLayer]],
    faces: NDArray[np.uint8],
) -> None:
    """Load folded weights into a network whose convolutions have a batch normalisation behind them.

    Args:
        model: takes float32 [N, 48, 48, 1] pixels.
        pairs: its convolutions and dense layers, each with its weights.
        faces: uint8 [N, 48, 48], of which some give the statistics of normalisation.
    """
    # First, load the folded kernels with an identity as normalisation, and measure activations.
    # Then set the unfolded kernels, with these statistics.
    normalised = []
    for layer, folded in pairs:
        norm = _normalisation_after(layer)
        if norm is None:
            layer.set_weights([folded.kernel, folded.bias])
            continue
        layer.set_weights([folded.kernel])
        ones = np.ones_like(folded.bias)
        norm.set_weights([ones, folded.bias, 0.0 * ones, ones - np.float32(norm.epsilon)])
        normalised.append((layer, norm, folded))
    probe = keras.Model(model.input, [layer.output for layer, _, _ in normalised])
    moments = _moments(probe, _drawn(faces))
    for (layer, norm, folded), (means, variances) in zip(normalised, moments, strict=True):
        # The square of a dead channel's scale is below what a float32 can hold.
        mean, variance = means / folded.scales, variances / folded.scales / folded.scales
        deviation = np.sqrt(variance + norm.epsilon)
        layer.set_weights([folded.normalised_kernel])
        norm.set_weights(
            [folded.scales * deviation, folded.bias + folded.scales * mean, mean, variance]
        )


def _drawn(faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Random faces, always the same: the first ones of sorted data are all of one emotion."""
    order = np.random.default_rng(STATISTICS_SEED).permutation(len(faces))
    return faces[np.sort(order[:STATISTICS_FACES])]


def _moments(
    probe: keras.Model, faces: NDArray[np.uint8]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Mean and variance of each output's channels, float64 [C].

    The sums run over batches: all activations of a large network do not fit into memory.
    """
    sums: list[NDArray[np.float64]] = []
    for start in range(0, len(faces), STATISTICS_BATCH):
        pixels = faces[start : start + STATISTICS_BATCH, ..., np.newaxis].astype(np.float32)
        outputs = keras.tree.flatten(probe.predict_on_batch(pixels))
        flat = [np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in outputs]
        parts = [np.stack([np.full(x.shape[-1], len(x)), x.sum(0), (x**2).sum(0)]) for x in flat]
        sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
    means = [total / count for count, total, _ in sums]
    squares = [square / count for count, _, square in sums]
    return [(m, np.maximum(s - m**2, 0.0)) for m, s in zip(means, squares, strict=True)]


def _normalisation_after(layer: keras.Layer) -> layers.BatchNormalization | None:
    """The batch normalisation that takes the layer's output alone."""
    for node in layer._outbound_nodes:
        if isinstance(node.operation, layers.BatchNormalization):
            return node.operation
    return None
