from pathlib import Path

import keras
import numpy as np
import pytest

from emotion_trainer.data import Split
from emotion_trainer.errors import DataError, RecipeError
from emotion_trainer.export.int8 import export_int8
from emotion_trainer.models import families
from emotion_trainer.models.convert import convert, folded_lite0
from emotion_trainer.models.families import backbone, cost, efficientnet
from emotion_trainer.models.predictions import keras_logits, tflite_logits
from emotion_trainer.models.pretrained import load_pretrained
from emotion_trainer.models.warm_start import CONVOLUTIONS
from emotion_trainer.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "teachers"
SETTINGS = backbone.Settings(family="backbone", side=48)
LITE0 = efficientnet.Settings(family="efficientnet_lite0", side=48, blocks=8)


def folded_weights(model: keras.Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = {}
    for layer in model.layers:
        if isinstance(layer, CONVOLUTIONS):
            kernel = np.asarray(layer.kernel) * 10.0 ** rng.uniform(-1, 1)
            channels = layer.output.shape[-1]
            weights[f"{layer.name}/kernel"] = kernel
            weights[f"{layer.name}/bias"] = rng.uniform(0, 1, channels).astype(np.float32)
    return weights


def with_folded(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Load the weights as they are, normalisation behind them being the identity."""
    for layer in model.layers:
        if isinstance(layer, CONVOLUTIONS):
            layer.set_weights([weights[f"{layer.name}/kernel"]])
            norm = layer._outbound_nodes[0].operation
            bias = weights[f"{layer.name}/bias"]
            ones = np.ones_like(bias)
            norm.set_weights([ones, bias, 0 * ones, ones - norm.epsilon])


def test_load_pretrained_keeps_the_outputs_of_folded_weights(tmp_path: Path) -> None:
    model = families.build(SETTINGS)
    weights = folded_weights(model)
    np.savez(tmp_path / "weights.npz", **weights)
    faces = np.random.default_rng(1).integers(0, 256, (8, 48, 48), np.uint8)
    with_folded(model, weights)
    expected = keras_logits(model, faces)
    load_pretrained(model, tmp_path / "weights.npz", faces)
    np.testing.assert_allclose(keras_logits(model, faces), expected, atol=1e-3)
    kernel = np.asarray(model.get_layer("conv_pw_3").kernel)
    np.testing.assert_allclose(np.square(kernel).sum(axis=(0, 1, 2)), 1.0, rtol=1e-4)


def test_load_pretrained_other_file_is_refused(tmp_path: Path) -> None:
    model = families.build(SETTINGS)
    np.savez(tmp_path / "other.npz", conv1=np.zeros(1))
    for name in ("other.npz", "missing.npz"):
        with pytest.raises(RecipeError, match=r"^model.weights: "):
            load_pretrained(model, tmp_path / name, np.zeros((1, 48, 48), np.uint8))


def test_weights_without_licence_are_refused() -> None:
    with pytest.raises(ValueError, match="licence"):
        backbone.Settings(family="backbone", weights=Path("weights.npz"))


@pytest.mark.parametrize(
    "names", [("faceres.json", "faceres.bin"), ("efficientnet-lite0-57934424.pth",), ("other.h5",)]
)
def test_convert_other_file_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        convert(tmp_path / names[0])
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(DataError):
        convert(tmp_path / names[0])


def test_efficientnet_has_the_published_cost() -> None:
    """Of 385 MMAC at 224 pixels with colour, the head and a thousand classes."""
    model = families.build(LITE0.model_copy(update={"side": 224, "blocks": 16}))
    stem_of_colour = 2 * 112**2 * 9 * 32
    head = 7**2 * 320 * 1280 + 1280 * 1000
    macs = cost.mmac(model) * 1e6 + stem_of_colour + head
    assert macs == pytest.approx(385e6, rel=0.01)


def test_efficientnet_folded_weights_compute_as_normalised_ones(tmp_path: Path) -> None:
    state = lite0_state(np.random.default_rng(2))
    model = families.build(LITE0)
    load_state(model, state)
    faces = np.random.default_rng(3).integers(0, 256, (8, 48, 48), np.uint8)
    expected = keras_logits(model, faces)
    np.savez(tmp_path / "lite0.npz", **folded_lite0(state))
    load_pretrained(model, tmp_path / "lite0.npz", faces)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(keras_logits(model, faces), expected, atol=0.02 * np.ptp(expected))


def test_efficientnet_int8_agrees_with_float(tmp_path: Path) -> None:
    model = families.build(LITE0)
    load_state(model, lite0_state(np.random.default_rng(4)))
    coarse = np.random.default_rng(5).integers(0, 256, (96, 6, 6), np.uint8)
    faces = np.kron(coarse, np.ones((8, 8), np.uint8))
    faces[:, 0, :2] = 0, 255
    split = Split(faces, np.zeros(96, np.int64), np.zeros((96, 10), np.uint8))
    export_int8(model, split, seed=0, path=tmp_path / "lite0.tflite")
    original = keras_logits(model, faces)
    exported = tflite_logits(tmp_path / "lite0.tflite", faces)
    assert (original.argmax(axis=1) == exported.argmax(axis=1)).mean() > 0.8


def lite0_state(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights under PyTorch's names, of all sixteen blocks."""
    full = families.build(LITE0.model_copy(update={"blocks": 16}))
    state = {}
    for layer in full.layers:
        if not isinstance(layer, CONVOLUTIONS):
            continue
        kernel = np.asarray(layer.kernel)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel = kernel.transpose(0, 1, 3, 2)
        elif layer.name == "stem":
            kernel = kernel.repeat(3, axis=2) / 3
        convolution, norm = state_names(layer.name)
        channels = kernel.shape[-1]
        state[f"{convolution}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"{norm}.weight"] = rng.uniform(0.5, 2, channels).astype(np.float32)
        state[f"{norm}.bias"] = rng.normal(0, 0.5, channels).astype(np.float32)
        state[f"{norm}.running_mean"] = rng.normal(0, 0.2, channels).astype(np.float32)
        state[f"{norm}.running_var"] = rng.uniform(0.5, 2, channels).astype(np.float32)
    return state


def state_names(layer: str) -> tuple[str, str]:
    if layer == "stem":
        return "_conv_stem", "_bn0"
    _, number, part = layer.split("_")
    norm = {"expand": 0, "depthwise": 1, "project": 2}[part]
    return f"_blocks.{number}._{part}_conv", f"_blocks.{number}._bn{norm}"


def load_state(model: keras.Model, state: dict[str, np.ndarray]) -> None:
    """Load each convolution and its normalisation as they are."""
    for layer in model.layers:
        if not isinstance(layer, CONVOLUTIONS):
            continue
        convolution, name = state_names(layer.name)
        kernel = state[f"{convolution}.weight"].transpose(2, 3, 1, 0)
        if layer.name == "stem":
            kernel = kernel.sum(axis=2, keepdims=True)
        layer.set_weights([kernel.reshape(layer.kernel.shape)])
        norm = layer._outbound_nodes[0].operation
        assert norm.epsilon == 1e-3
        parts = ("weight", "bias", "running_mean", "running_var")
        norm.set_weights([state[f"{name}.{part}"] for part in parts])


def test_bundled_backbone_recipe_is_refused(tmp_path: Path) -> None:
    text = (RECIPES / "hse96.toml").read_text(encoding="utf-8")
    path = tmp_path / "hse96.toml"
    path.write_text(text.replace("bundled = false", ""), encoding="utf-8")
    with pytest.raises(RecipeError, match="bundled"):
        read_recipe(path)


def test_teacher_recipes_are_valid() -> None:
    for path in RECIPES.glob("*.toml"):
        assert read_recipe(path).model.family == "backbone"
