from pathlib import Path

import keras
import numpy as np
import pytest

from emotion_trainer.data import Split
from emotion_trainer.errors import DataError, RecipeError
from emotion_trainer.export.int8 import export_int8
from emotion_trainer.models import families
from emotion_trainer.models.convert import convert, folded_dlib, folded_lite0
from emotion_trainer.models.families import backbone, cost, dlib_resnet, efficientnet
from emotion_trainer.models.predictions import keras_logits, tflite_logits
from emotion_trainer.models.pretrained import load_pretrained
from emotion_trainer.models.warm_start import CONVOLUTIONS
from emotion_trainer.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "teachers"
SETTINGS = backbone.Settings(family="backbone", side=48)
DLIB = dlib_resnet.Settings(family="dlib_resnet", side=48, blocks=8)
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


def test_load_pretrained_statistics_do_not_depend_on_sorting(tmp_path: Path) -> None:
    model = families.build(SETTINGS)
    np.savez(tmp_path / "weights.npz", **folded_weights(model))
    faces = np.random.default_rng(1).integers(0, 30, (800, 48, 48), np.uint8)
    faces[400:] += 200
    norm = model.get_layer("conv1")._outbound_nodes[0].operation

    def means(of: np.ndarray) -> np.ndarray:
        load_pretrained(model, tmp_path / "weights.npz", of)
        return np.asarray(norm.moving_mean)

    dark, bright = means(faces[:32]), means(faces[-32:])
    apart = np.abs(means(faces) - means(faces[::-1]))
    assert apart.max() < 0.2 * np.abs(dark - bright).max()


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
    "names",
    [
        ("faceres.json", "faceres.bin"),
        ("face_recognition_model-weights_manifest.json", "face_recognition_model.bin"),
        ("efficientnet-lite0-57934424.pth",),
        ("other.json",),
    ],
)
def test_convert_other_file_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        convert(tmp_path / names[0])
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(DataError):
        convert(tmp_path / names[0])


def test_dlib_has_the_published_convolutions() -> None:
    """29 of them; three quarters of the parameters are behind the tenth block."""
    whole = families.build(DLIB.model_copy(update={"blocks": 14}))
    convolutions = [layer for layer in whole.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len([layer for layer in convolutions if not layer.name.endswith("_shortcut")]) == 29
    part = families.build(DLIB.model_copy(update={"blocks": 10}))
    assert part.count_params() < whole.count_params() / 4


def test_dlib_folded_weights_compute_as_scaled_ones(tmp_path: Path) -> None:
    tensors = dlib_tensors(np.random.default_rng(6))
    model = families.build(DLIB)
    load_dlib_tensors(model, tensors)
    assert_loading_keeps_the_outputs(model, folded_dlib(tensors), tmp_path)


def test_dlib_grey_stem_computes_as_that_of_colour() -> None:
    tensors = dlib_tensors(np.random.default_rng(8))
    grey = np.random.default_rng(9).uniform(0, 255, (1, 15, 15, 1)).astype(np.float32)
    colour = (grey - np.float32(dlib_resnet.CHANNEL_MEANS)) / dlib_resnet.SCALE
    stem = dlib_resnet.STEM
    expected = keras.ops.conv(colour, tensors[f"{stem}/conv/filters"])
    expected = (expected + tensors[f"{stem}/conv/bias"]) * tensors[f"{stem}/scale/weights"]
    expected = np.asarray(expected + tensors[f"{stem}/scale/biases"])
    folded = folded_dlib(tensors)
    centred = (grey - dlib_resnet.MEAN) / dlib_resnet.SCALE
    kernel = folded[f"{stem}/kernel"].astype(np.float32)
    found = np.asarray(keras.ops.conv(centred, kernel)) + folded[f"{stem}/bias"]
    np.testing.assert_allclose(found, expected, atol=0.01 * np.ptp(expected))


def test_dlib_int8_agrees_with_float(tmp_path: Path) -> None:
    model = families.build(DLIB)
    load_dlib_tensors(model, dlib_tensors(np.random.default_rng(10)))
    assert int8_agreement(model, tmp_path) > 0.8


def dlib_tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights under face-api's names, of all blocks."""
    tensors = {}
    for layer in families.build(DLIB.model_copy(update={"blocks": 14})).layers:
        if not isinstance(layer, keras.layers.Conv2D) or layer.name.endswith("_shortcut"):
            continue
        name = dlib_name(layer.name)
        kernel = np.asarray(layer.kernel)
        if layer.name == dlib_resnet.STEM:
            kernel = rng.normal(0, 0.1, (7, 7, 3, kernel.shape[-1])).astype(np.float32)
        channels = kernel.shape[-1]
        tensors[f"{name}/conv/filters"] = kernel
        tensors[f"{name}/conv/bias"] = rng.normal(0, 0.1, channels).astype(np.float32)
        tensors[f"{name}/scale/weights"] = rng.uniform(0.5, 1, channels).astype(np.float32)
        tensors[f"{name}/scale/biases"] = rng.normal(0, 0.1, channels).astype(np.float32)
    return tensors


def dlib_name(layer: str) -> str:
    """face-api's name of a convolution: `conv32_1/conv1` for `conv32_1_conv1`."""
    return layer.replace("_conv", "/conv")


def load_dlib_tensors(model: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    """Load each convolution and its scale as they are, and the shortcuts as dlib has them."""
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        if layer.name.endswith("_shortcut"):
            shape = layer.kernel.shape
            layer.set_weights([np.eye(*shape[2:])[np.newaxis, np.newaxis], np.zeros(shape[3])])
            continue
        name = dlib_name(layer.name)
        kernel, bias = tensors[f"{name}/conv/filters"], tensors[f"{name}/conv/bias"]
        if layer.name == dlib_resnet.STEM:
            folded = folded_dlib(tensors)
            kernel = kernel.sum(axis=2, keepdims=True)
            scaled = folded[f"{layer.name}/bias"] - tensors[f"{name}/scale/biases"]
            bias = scaled / tensors[f"{name}/scale/weights"]
        layer.set_weights([kernel])
        norm = layer._outbound_nodes[0].operation
        scale, beta = tensors[f"{name}/scale/weights"], tensors[f"{name}/scale/biases"]
        norm.set_weights([scale, beta, -bias, np.full_like(bias, 1 - norm.epsilon)])


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
    assert_loading_keeps_the_outputs(model, folded_lite0(state), tmp_path)


def assert_loading_keeps_the_outputs(
    model: keras.Model, folded: dict[str, np.ndarray], folder: Path
) -> None:
    """Load the folded weights into the network that has them unfolded."""
    faces = np.random.default_rng(3).integers(0, 256, (8, 48, 48), np.uint8)
    expected = keras_logits(model, faces)
    np.savez(folder / "folded.npz", **folded)
    load_pretrained(model, folder / "folded.npz", faces)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(keras_logits(model, faces), expected, atol=0.02 * np.ptp(expected))


def test_efficientnet_int8_agrees_with_float(tmp_path: Path) -> None:
    model = families.build(LITE0)
    load_state(model, lite0_state(np.random.default_rng(4)))
    assert int8_agreement(model, tmp_path) > 0.8


def int8_agreement(model: keras.Model, folder: Path) -> float:
    """The share of faces to which the int8 file gives the float model's emotion."""
    coarse = np.random.default_rng(5).integers(0, 256, (96, 6, 6), np.uint8)
    faces = np.kron(coarse, np.ones((8, 8), np.uint8))
    faces[:, 0, :2] = 0, 255
    split = Split(faces, np.zeros(96, np.int64), np.zeros((96, 10), np.uint8))
    export_int8(model, split, seed=0, path=folder / "int8.tflite")
    original = keras_logits(model, faces)
    exported = tflite_logits(folder / "int8.tflite", faces)
    return float((original.argmax(axis=1) == exported.argmax(axis=1)).mean())


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


def test_teacher_recipes_are_pretrained_and_not_bundled() -> None:
    recipes = [read_recipe(path) for path in RECIPES.glob("*.toml")]
    assert recipes
    for recipe in recipes:
        assert isinstance(recipe.model, backbone.PretrainedSettings)
        assert not recipe.bundled
