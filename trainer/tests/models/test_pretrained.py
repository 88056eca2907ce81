from pathlib import Path

import keras
import numpy as np
import pytest

from emotion_trainer.errors import DataError, RecipeError
from emotion_trainer.models import families
from emotion_trainer.models.families import backbone
from emotion_trainer.models.predictions import keras_logits
from emotion_trainer.models.pretrained import load_pretrained
from emotion_trainer.models.tfjs import convert_mobilenet
from emotion_trainer.models.warm_start import CONVOLUTIONS
from emotion_trainer.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "teachers"
SETTINGS = backbone.Settings(family="backbone", side=48)


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


def test_convert_other_file_is_refused(tmp_path: Path) -> None:
    for name in ("faceres.json", "faceres.bin"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(DataError):
        convert_mobilenet(tmp_path / "faceres.json")


def test_bundled_backbone_recipe_is_refused(tmp_path: Path) -> None:
    text = (RECIPES / "hse96.toml").read_text(encoding="utf-8")
    path = tmp_path / "hse96.toml"
    path.write_text(text.replace("bundled = false", ""), encoding="utf-8")
    with pytest.raises(RecipeError, match="bundled"):
        read_recipe(path)


def test_teacher_recipes_are_valid() -> None:
    for path in RECIPES.glob("*.toml"):
        assert read_recipe(path).model.family == "backbone"
