"""The number format of a training: 32 bits, or 16 where the device is faster with them.

Mixed precision (Micikevicius et al. 2018) multiplies in 16 bits and keeps weights, their updates
and the loss in 32. Measured speed-ups on processors with bfloat16 instructions:

- Intel's AMX: 2.5 for a VGG16 with PyTorch, 2.3 for a ResNet with TensorFlow.
- AVX-512, an EPYC of 2024: with PyTorch 1.9 for dlib's network and 1.3 for the bundled ones; with
  TensorFlow none.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import keras

AUTO: Final = "auto"
FULL: Final = "float32"
# NVIDIA's compute capability from which tensor cores support the format.
BFLOAT16_SINCE: Final = (8, 0)
FLOAT16_SINCE: Final = (7, 0)
PROCESSORS: Final = Path("/proc/cpuinfo")


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """A context whose new layers compute in a recipe's precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(resolve(precision))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def resolve(precision: str) -> str:
    """The name of the Keras policy for a recipe's precision, which may be `auto`."""
    if precision != AUTO:
        return precision
    match keras.backend.backend():
        case "tensorflow":
            return _best_of_tensorflow()
        case "jax":
            return _best_of_jax()
        case "torch":
            return _best_of_torch()
        case _:
            return FULL


def for_capability(capability: tuple[int, int]) -> str:
    """The policy that suits an NVIDIA GPU of this compute capability."""
    if capability >= BFLOAT16_SINCE:
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= FLOAT16_SINCE else FULL


def for_processor(features: str, backend: str) -> str:
    """The policy that suits a processor with these features (flags in `/proc/cpuinfo`)."""
    instructions = r"\b(amx|avx512)_bf16\b" if backend == "torch" else r"\bamx_bf16\b"
    return "mixed_bfloat16" if re.search(instructions, features) else FULL


def _best_of_tensorflow() -> str:
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        return for_capability(details.get("compute_capability", (0, 0)))
    return _best_of_processor()


def _best_of_jax() -> str:
    import jax

    if jax.default_backend() == "tpu":
        return "mixed_bfloat16"
    # Only NVIDIA's devices have one in this form.
    found = re.fullmatch(r"(\d+)\.(\d+)", getattr(jax.devices()[0], "compute_capability", ""))
    return for_capability((int(found[1]), int(found[2]))) if found else FULL


def _best_of_torch() -> str:
    import torch

    if torch.cuda.is_available():
        return for_capability(torch.cuda.get_device_capability())
    return _best_of_processor()


def _best_of_processor() -> str:
    if not PROCESSORS.exists():
        return FULL
    return for_processor(PROCESSORS.read_text(), keras.backend.backend())
