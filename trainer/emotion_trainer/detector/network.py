"""The detector's network in Keras: depthwise separable blocks, a feature pyramid, three maps.

It follows YuNet (Wu et al. 2023) and SCRFD (Guo et al. 2021). PyTorch trains it
(`network_torch`); this definition measures and exports it. No operation depends on the image's
size, so the exported file takes any size whose sides are multiples of 32.
"""

from typing import Final

import keras
from keras import layers, ops

from edge_daemon.detection.bundled import PATCH_SIDE
from edge_daemon.detection.decoding import GEOMETRY, STRIDES
from emotion_trainer.detector.recipe import NetworkSettings, VerifierSettings
from emotion_trainer.models.families.layers import normalise

OUTPUTS: Final = 1 + GEOMETRY
"""Numbers of a cell: the score's logit, then the geometry."""


EVIDENCE: Final = "evidence"
"""The name of the verifier's layer for the log-odds that it adds to a score."""

STRIDED_KERNEL: Final = 3
"""Side of the kernels that halve the resolution."""


@keras.saving.register_keras_serializable("emotion_trainer")
class NearestUpsampling(layers.Layer):  # type: ignore[misc]
    """Double the height and width by repeating pixels.

    TensorFlow Lite's resizing takes a fixed size, its depth-to-space does not.
    """

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """[N, H, W, C] to [N, 2H, 2W, C]."""
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.nn.depth_to_space(ops.concatenate([x] * 4, axis=-1), 2)
        return ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)


def build(
    settings: NetworkSettings, size: tuple[int | None, int | None] = (None, None)
) -> keras.Model:
    """Build the untrained network.

    It maps grey pixels [N, H, W, 1] to the outputs of all cells [N, cells, 15], the finest map
    first, row by row. Layers have the names of PyTorch's modules, with `-` for the dot.
    """
    pixels = keras.Input((*size, 1), name="images")
    x = layers.ReLU()(_convolve(normalise(pixels), settings.stem, STRIDED_KERNEL, "stem", 2))
    levels = []
    for stage, ((width, blocks), kernel) in enumerate(
        zip(settings.stages, settings.kernels, strict=True)
    ):
        for number in range(blocks):
            name = f"stages-{stage}-{number}"
            x = _block(x, width, kernel, name, is_strided=number == 0)
        levels.append(x)
    merged: list[keras.KerasTensor] = []
    for number, level in reversed(list(enumerate(levels[1:]))):
        y = _convolve(level, settings.pyramid, 1, f"laterals-{number}")
        if merged:
            y = layers.Add()([y, NearestUpsampling()(merged[0])])
        merged.insert(0, layers.ReLU()(y))
    kernel = settings.kernels[-1]
    cells = [_head(level, kernel, f"heads-{number}") for number, level in enumerate(merged)]
    return keras.Model(pixels, layers.Concatenate(axis=1)(cells), name="detector")


def build_verifier(settings: VerifierSettings) -> keras.Model:
    """Build the untrained verifier: grey patches [N, S, S, 1] to evidence [N, 1], geometry [N, 14].

    It is made of the same blocks; its first stage keeps the resolution. Layers have the names of
    PyTorch's modules.
    """
    pixels = keras.Input((PATCH_SIDE, PATCH_SIDE, 1), name="patches")
    x = layers.ReLU()(_convolve(normalise(pixels), settings.stem, STRIDED_KERNEL, "stem", 2))
    for stage, (width, blocks) in enumerate(settings.stages):
        for number in range(blocks):
            name = f"stages-{stage}-{number}"
            x = _block(x, width, STRIDED_KERNEL, name, is_strided=stage > 0 and number == 0)
    evidence = layers.Dense(1, name=EVIDENCE)(layers.GlobalAveragePooling2D()(x))
    squeezed = layers.ReLU()(_convolve(x, settings.geometry, 1, "squeeze"))
    geometry = layers.Dense(GEOMETRY, name="geometry")(layers.Flatten()(squeezed))
    return keras.Model(pixels, [evidence, geometry], name="verifier")


def score_layer(level: int) -> str:
    """The name of the layer that gives a map's scores; 0 is the finest map."""
    return f"heads-{level}-scores"


def maps_of(model: keras.Model) -> keras.Model:
    """The same network with the maps as its outputs: scores, then geometry, finest first."""
    levels = range(len(STRIDES))
    names = [*map(score_layer, levels), *(f"heads-{level}-geometry" for level in levels)]
    return keras.Model(model.inputs, [model.get_layer(name).output for name in names])


def _convolve(
    x: keras.KerasTensor, width: int, kernel: int, name: str, stride: int = 1
) -> keras.KerasTensor:
    x = layers.Conv2D(
        width, kernel, stride, padding="same", use_bias=False, name=f"{name}-convolution"
    )(x)
    return layers.BatchNormalization(name=f"{name}-norm")(x)


def _block(
    x: keras.KerasTensor, width: int, kernel: int, name: str, *, is_strided: bool = False
) -> keras.KerasTensor:
    y = layers.DepthwiseConv2D(
        STRIDED_KERNEL if is_strided else kernel,
        2 if is_strided else 1,
        padding="same",
        use_bias=False,
        name=f"{name}-depthwise-convolution",
    )(x)
    y = layers.BatchNormalization(name=f"{name}-depthwise-norm")(y)
    y = _convolve(y, width, 1, f"{name}-pointwise")
    if x.shape[-1] == width and not is_strided:
        y = layers.Add()([x, y])
    return layers.ReLU()(y)


def _head(x: keras.KerasTensor, kernel: int, name: str) -> keras.KerasTensor:
    x = _block(x, x.shape[-1], kernel, f"{name}-block")
    # Two layers, since the int8 file needs a scale of its own for either's range.
    scores = layers.Conv2D(1, 1, name=f"{name}-scores")(x)
    geometry = layers.Conv2D(GEOMETRY, 1, name=f"{name}-geometry")(x)
    return layers.Reshape((-1, OUTPUTS))(layers.Concatenate()([scores, geometry]))
