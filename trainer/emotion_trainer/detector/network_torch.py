"""The detector's network in PyTorch, which trains it, and the transfer of its weights to Keras.

PyTorch trains it three times as fast on a processor as TensorFlow does: oneDNN has fast gradients
of depthwise convolutions in the channels-last layout.
"""

import zipfile
from pathlib import Path
from typing import Final

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_daemon.detection.bundled import PATCH_SIDE
from edge_daemon.detection.decoding import GEOMETRY, STRIDES
from emotion_trainer.detector.network import STRIDED_KERNEL
from emotion_trainer.detector.recipe import NetworkSettings, VerifierSettings
from emotion_trainer.errors import TrainingError

INITIAL_LOGIT: Final = -4.0
"""Bias of the scores at the start: nearly every cell is background."""
DROPOUT: Final = 0.2
"""Of the verifier's features."""
NORM_MOMENTUM: Final = 0.05
NORM_EPSILON: Final = 1e-3
"""As Keras has it."""


class Convolution(nn.Module):
    """Convolution without a bias, padded as Keras' `same`, then batch normalisation."""

    def __init__(
        self, inputs: int, width: int, kernel: int, *, is_strided: bool = False, groups: int = 1
    ) -> None:
        super().__init__()
        stride, padding = (2, 0) if is_strided else (1, kernel // 2)
        self.convolution = nn.Conv2d(
            inputs, width, kernel, stride, padding, groups=groups, bias=False
        )
        fan_in = kernel * kernel * inputs // groups
        nn.init.trunc_normal_(self.convolution.weight, std=(2.0 / fan_in) ** 0.5)
        self.norm = nn.BatchNorm2d(width, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)
        self._is_strided = is_strided

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same, or half as high and wide."""
        if self._is_strided:  # sides are even: `same` pads below and on the right alone
            x = functional.pad(x, (0, 1, 0, 1))
        y: Tensor = self.norm(self.convolution(x))
        return y


class Block(nn.Module):
    """Depthwise and pointwise convolution, with a residual where the shapes allow."""

    def __init__(self, inputs: int, width: int, kernel: int, *, is_strided: bool = False) -> None:
        super().__init__()
        side = STRIDED_KERNEL if is_strided else kernel
        self.depthwise = Convolution(inputs, inputs, side, is_strided=is_strided, groups=inputs)
        self.pointwise = Convolution(inputs, width, 1)
        self._is_residual = inputs == width and not is_strided

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same, or half as high and wide."""
        y = self.pointwise(self.depthwise(x))
        return functional.relu(x + y if self._is_residual else y)


class Head(nn.Module):
    """A block, then the score's logit and the geometry of each cell."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.block = Block(width, width, kernel)
        self.scores = nn.Conv2d(width, 1, 1)
        self.geometry = nn.Conv2d(width, GEOMETRY, 1)
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.normal_(self.geometry.weight, std=0.01)
        with torch.no_grad():
            for layer, bias in ((self.scores, INITIAL_LOGIT), (self.geometry, 0.0)):
                if layer.bias is not None:
                    layer.bias.fill_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the outputs of its cells [N, H * W, 15]."""
        x = self.block(x)
        maps = torch.cat([self.scores(x), self.geometry(x)], dim=1)
        return maps.permute(0, 2, 3, 1).flatten(1, 2)


class Network(nn.Module):
    """From grey pixels float32 [N, 1, H, W], 0 to 255, to all cells' outputs [N, cells, 15].

    The order of the cells and of the layers is that of `network.build`.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.stem = Convolution(1, settings.stem, STRIDED_KERNEL, is_strided=True)
        stages, inputs = [], settings.stem
        for (width, blocks), kernel in zip(settings.stages, settings.kernels, strict=True):
            chain = [Block(inputs, width, kernel, is_strided=True)]
            chain += [Block(width, width, kernel) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*chain))
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(
            Convolution(width, settings.pyramid, 1) for width, _ in settings.stages[1:]
        )
        self.heads = nn.ModuleList(Head(settings.pyramid, settings.kernels[-1]) for _ in STRIDES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [N, 1, H, W] to outputs [N, cells, 15]."""
        x = functional.relu(self.stem(pixels / 127.5 - 1.0))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        merged: list[Tensor] = []
        for lateral, level in zip(reversed(self.laterals), reversed(levels[1:]), strict=True):
            y = lateral(level)
            if merged:
                y = y + functional.interpolate(merged[0], scale_factor=2.0)
            merged.insert(0, functional.relu(y))
        return torch.cat([head(x) for head, x in zip(self.heads, merged, strict=True)], dim=1)


def as_tensor(images: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    """Images [N, H, W, 1] as float32 [N, 1, H, W]."""
    return torch.from_numpy(np.asarray(images, np.float32)).permute(0, 3, 1, 2)


@torch.no_grad()
def predict(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The outputs [N, cells, 15] of a network in evaluation mode for images [N, H, W, 1]."""
    outputs: NDArray[np.float32] = network(as_tensor(images)).numpy()
    return outputs


class VerifierNetwork(nn.Module):
    """From grey patches float32 [N, 1, S, S] to evidence [N] and geometry [N, GEOMETRY].

    The order of the layers is that of `network.build_verifier`.
    """

    def __init__(self, settings: VerifierSettings) -> None:
        super().__init__()
        self.stem = Convolution(1, settings.stem, STRIDED_KERNEL, is_strided=True)
        stages, inputs, side = [], settings.stem, PATCH_SIDE // 2
        for number, (width, blocks) in enumerate(settings.stages):
            chain = [Block(inputs, width, STRIDED_KERNEL, is_strided=number > 0)]
            chain += [Block(width, width, STRIDED_KERNEL) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*chain))
            inputs, side = width, side // 2 if number > 0 else side
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(DROPOUT)
        self.evidence = nn.Linear(inputs, 1)
        self.squeeze = Convolution(inputs, settings.geometry, 1)
        self.geometry = nn.Linear(settings.geometry * side * side, GEOMETRY)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Grey levels 0 to 255 to evidence and geometry."""
        x = functional.relu(self.stem(patches / 127.5 - 1.0))
        for stage in self.stages:
            x = stage(x)
        evidence = self.evidence(self.dropout(x.mean(dim=(2, 3))))[:, 0]
        squeezed = functional.relu(self.squeeze(x))
        # Keras flattens rows of channels, not channels of rows.
        return evidence, self.geometry(squeezed.permute(0, 2, 3, 1).flatten(1))


def _array(tensor: Tensor | None) -> NDArray[np.float32]:
    if tensor is None:
        raise TypeError("batch normalisation keeps running statistics")
    return tensor.detach().cpu().numpy().astype(np.float32)


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the weights as float16 to an `.npz` file."""
    values = {name: value.numpy() for name, value in network.state_dict().items() if value.ndim}
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **{n: v.astype(np.float16) for n, v in values.items()})
    unfinished.replace(path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Read weights written by `save_weights`.

    Raises:
        TrainingError: the file is missing or damaged, or of another network.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
        counters = {name: v for name, v in network.state_dict().items() if not v.ndim}
        network.load_state_dict(values | counters)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{path}: cannot start from these weights: {reason}") from error


def transfer(network: nn.Module, model: keras.Model) -> None:
    """Give a Keras model the weights of the same network in PyTorch."""
    named = dict(network.named_modules())
    for layer in model.layers:
        if not layer.weights:
            continue
        path = layer.name.replace("-", ".")
        module = named[path]
        if isinstance(module, nn.Conv2d):
            kernel = _array(module.weight)
            order = (2, 3, 0, 1) if module.groups > 1 else (2, 3, 1, 0)
            bias = [] if module.bias is None else [_array(module.bias)]
            layer.set_weights([kernel.transpose(order), *bias])
        elif isinstance(module, nn.Linear):
            layer.set_weights([_array(module.weight).T, _array(module.bias)])
        elif isinstance(module, nn.BatchNorm2d):
            parts = (module.weight, module.bias, module.running_mean, module.running_var)
            layer.set_weights([_array(part) for part in parts])
