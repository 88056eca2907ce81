from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_trainer.errors import RecipeError
from emotion_trainer.models import families
from emotion_trainer.models.families.cost import mmac
from emotion_trainer.models.families.imagenet import APPLICATIONS, Settings

SMALL = Settings(family="imagenet", application="MobileNetV2", alpha=0.35)


@pytest.fixture(scope="module")
def pretrained() -> keras.Model:
    """Stands for a network trained on ImageNet; of the size that undoes the stem's stride."""
    return keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )


@pytest.fixture(scope="module")
def weights(pretrained: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("imagenet") / "mobilenet.weights.h5"
    pretrained.save_weights(path)
    return path


def loading(weights: Path) -> Settings:
    return SMALL.model_copy(update={"weights": weights})


def trunk(model: keras.Model) -> list[NDArray[np.float32]]:
    """All weights but the kernel and bias of the logits."""
    kept: list[NDArray[np.float32]] = model.get_weights()[:-2]
    return kept


def test_imagenet_weights_are_loaded(pretrained: keras.Model, weights: Path) -> None:
    for found, expected in zip(
        trunk(families.build(loading(weights))), pretrained.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_grey_face_has_the_features_of_the_enlarged_colour_one(
    pretrained: keras.Model, weights: Path
) -> None:
    model = families.build(loading(weights))
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (4, 48, 48, 1)).astype(np.float32)
    enlarged = keras.ops.image.resize(grey, (96, 96), interpolation="bilinear")
    colours = np.repeat(keras.ops.convert_to_numpy(enlarged), 3, axis=-1)
    expected = pretrained.predict(
        keras.applications.mobilenet_v2.preprocess_input(colours), verbose=0
    )
    pooled = keras.Model(model.input, model.get_layer("logits").input)
    found = pooled.predict(grey, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", APPLICATIONS)
def test_preprocesses_as_the_application_does(name: str) -> None:
    model = families.build(SMALL.model_copy(update={"application": name, "alpha": 1.0}))
    assert model.output_shape == (None, 7)
    greys = np.full((3, 48, 48, 1), 0.0, np.float32)
    greys += np.array([0.0, 100.0, 255.0], np.float32)[:, None, None, None]
    last = next(x for x in model.layers if isinstance(x, keras.layers.UpSampling2D))
    adapted = keras.Model(model.input, last.output)
    expected = APPLICATIONS[name].preprocess(np.repeat(greys, 3, axis=-1))
    found = adapted.predict(greys, verbose=0)
    np.testing.assert_allclose(found[:, 9, 9], expected[:, 9, 9], rtol=1e-4, atol=1e-3)


def test_build_without_weights_is_random(weights: Path) -> None:
    random, loaded = (trunk(families.build(settings)) for settings in (SMALL, loading(weights)))
    assert not np.array_equal(random[0], loaded[0])


def test_costs_what_the_application_costs(pretrained: keras.Model) -> None:
    assert mmac(families.build(SMALL)) == pytest.approx(mmac(pretrained), rel=1e-3)


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_weights_that_cannot_be_read_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "lost.weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"^model\.weights: .*/lost\.weights\.h5: "):
        families.build(loading(path))


def test_weights_of_another_application_are_refused(weights: Path) -> None:
    wrong = Settings(family="imagenet", application="VGG16", weights=weights, licence="MIT")
    with pytest.raises(RecipeError, match=r"^model\.weights: .*\bVGG16\b"):
        families.build(wrong)


def test_weights_of_another_width_are_refused(weights: Path) -> None:
    with pytest.raises(RecipeError, match=r"^model\.weights: .*\bMobileNetV2\b"):
        families.build(loading(weights).model_copy(update={"alpha": 0.5}))


def test_weights_without_licence_are_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match="licence"):
        Settings(family="imagenet", application="VGG16", weights=weights)


def test_alpha_of_another_application_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        Settings(family="imagenet", application="VGG16", alpha=0.5)
