"""A training step by PyTorch's own kernels, a third faster on processors than Keras' layers.

Keras computes batch normalisation from elementary operations and copies activations between
layouts. Here the network's layers run as PyTorch functions in its channels-last layout, on the
Keras variables themselves, so that optimiser, checkpoint and export are the same as without it.
"""

from collections.abc import Callable, Mapping
from typing import Final

import keras
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from keras import layers
from numpy.typing import NDArray
from torch import Tensor


class TorchStep:
    """Trains a compiled Keras model, of those that `supports` accepts, on a batch.

    Args:
        model: is trained.
        seed: the recipe's, and the epoch. Dropout draws from PyTorch's global generator, whose
            state is not in a checkpoint, so it is seeded here: a resumed training then draws what
            an uninterrupted one would have drawn.
    """

    def __init__(self, model: keras.Model, seed: tuple[int, int]) -> None:
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        self._model = model
        self._inputs = {
            id(layer): [id(tensor._keras_history.operation) for tensor in _input_tensors(layer)]
            for layer in model.layers
        }
        self._variables = model.trainable_variables
        self._is_mixed = model.dtype_policy.name == "mixed_bfloat16"

    @classmethod
    def supports(cls, model: keras.Model) -> bool:
        """Whether all layers are implemented here, and a processor computes the model."""
        return (
            keras.backend.backend() == "torch"
            and not torch.cuda.is_available()
            and model.dtype_policy.name in ("float32", "mixed_bfloat16")
            and all(type(layer) in _FUNCTIONS for layer in model.layers)
            and all(_activation(layer) in _ACTIVATIONS for layer in model.layers)
        )

    def __call__(self, samples: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
        """Take one optimiser step; samples are float32 [B, H, W, C]. Returns the mean loss."""
        # Under autocast, weights and batch normalisation stay in 32 bits.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._is_mixed):
            logits = self._forward(torch.from_numpy(samples).permute(0, 3, 1, 2))
        loss = self._model.loss(torch.from_numpy(targets), logits.float()).mean()
        tensors = [variable.value for variable in self._variables]
        gradients = torch.autograd.grad(loss, tensors)
        with torch.no_grad():
            self._model.optimizer.apply(list(gradients), self._variables)
        return float(loss.detach())

    def _forward(self, pixels: Tensor) -> Tensor:
        outputs: dict[int, Tensor] = {}
        for layer in self._model.layers:
            inputs = [outputs[source] for source in self._inputs[id(layer)]] or [pixels]
            result = _FUNCTIONS[type(layer)](layer, *inputs)
            outputs[id(layer)] = _ACTIVATIONS[_activation(layer)](result)
        return outputs[id(self._model.layers[-1])]


def _input_tensors(layer: keras.Layer) -> list[keras.KerasTensor]:
    if isinstance(layer, layers.InputLayer):
        return []
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _activation(layer: keras.Layer) -> Callable[..., object]:
    """The activation function that a layer applies itself, such as a convolution's."""
    function: Callable[..., object] = getattr(layer, "activation", keras.activations.linear)
    return function


def _padded(layer: keras.Layer, x: Tensor, fill: float = 0.0) -> Tensor:
    """Pad as Keras' "same" does: the missing pixels of the last window, an odd one at the end."""
    if layer.padding == "valid":
        return x
    size = getattr(layer, "kernel_size", None) or layer.pool_size
    lacking = [
        max(0, (-(-length // stride) - 1) * stride + window - length)
        for length, stride, window in zip(x.shape[2:], layer.strides, size, strict=True)
    ]
    height, width = lacking
    if not height and not width:
        return x
    pads = (width // 2, width - width // 2, height // 2, height - height // 2)
    return F.pad(x, pads, value=fill)


def _kernel(layer: keras.Layer, order: tuple[int, ...]) -> Tensor:
    kernel: Tensor = layer.kernel.value.permute(order)
    return kernel.contiguous(memory_format=torch.channels_last)


def _convolve(layer: keras.Layer, x: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
    bias = layer.bias.value if layer.use_bias else None
    if layer.strides == (1, 1) and layer.padding == "same":
        return F.conv2d(x, kernel, bias, padding="same", groups=groups)
    # Keras pads the end alone where a stride of 2 lacks one pixel; PyTorch would pad both sides.
    return F.conv2d(_padded(layer, x), kernel, bias, stride=layer.strides, groups=groups)


def _conv(layer: keras.Layer, x: Tensor) -> Tensor:
    return _convolve(layer, x, _kernel(layer, (3, 2, 0, 1)))


def _depthwise(layer: keras.Layer, x: Tensor) -> Tensor:
    # In 16 bits it takes longer than in 32, unlike the other convolutions.
    with torch.autocast("cpu", enabled=False):
        return _convolve(layer, x.float(), _kernel(layer, (2, 3, 0, 1)), groups=x.shape[1])


def _normalise(layer: keras.Layer, x: Tensor) -> Tensor:
    mean, variance = layer.moving_mean.value.data, layer.moving_variance.value.data
    return F.batch_norm(
        x,
        mean,
        variance,
        layer.gamma.value,
        layer.beta.value,
        training=True,
        momentum=1.0 - layer.momentum,
        eps=layer.epsilon,
    )


def _activate(layer: keras.Layer, x: Tensor) -> Tensor:
    if layer.max_value is None:
        return F.relu(x)
    # Its gradient is one kernel; that of clamp is four.
    return F.hardtanh(x, 0.0, float(layer.max_value))


def _average(layer: keras.Layer, x: Tensor) -> Tensor:
    # With "same", windows may reach over the end; they average what is within.
    ceil = layer.padding == "same"
    return F.avg_pool2d(x, layer.pool_size, layer.strides, ceil_mode=ceil)


def _rescale(layer: keras.Layer, x: Tensor) -> Tensor:
    scale, offset = (
        torch.as_tensor(value, dtype=x.dtype).reshape(-1, 1, 1)
        for value in (layer.scale, layer.offset)
    )
    return x * scale + offset


def _resize(layer: keras.Layer, x: Tensor) -> Tensor:
    return F.interpolate(
        x, (layer.height, layer.width), mode=layer.interpolation, align_corners=False
    )


_ACTIVATIONS: Final[Mapping[Callable[..., object], Callable[[Tensor], Tensor]]] = {
    keras.activations.linear: lambda x: x,
    keras.activations.relu: F.relu,
}

_FUNCTIONS: Final[Mapping[type, Callable[..., Tensor]]] = {
    layers.InputLayer: lambda _, x: x,
    layers.Rescaling: _rescale,
    layers.Resizing: _resize,
    layers.Conv2D: _conv,
    layers.DepthwiseConv2D: _depthwise,
    layers.BatchNormalization: _normalise,
    layers.ReLU: _activate,
    layers.Add: lambda _, *xs: sum(xs[1:], xs[0]),
    layers.Concatenate: lambda _, *xs: torch.cat(xs, dim=1),
    layers.MaxPooling2D: lambda layer, x: F.max_pool2d(
        _padded(layer, x, -torch.inf), layer.pool_size, layer.strides
    ),
    layers.AveragePooling2D: _average,
    layers.GlobalAveragePooling2D: lambda _, x: x.mean(dim=(2, 3)),
    layers.Dropout: lambda layer, x: F.dropout(x, layer.rate, training=True),
    layers.Dense: lambda layer, x: F.linear(x, layer.kernel.value.T, layer.bias.value),
}
