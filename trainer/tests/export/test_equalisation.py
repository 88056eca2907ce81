from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from emotion_trainer.data import Dataset
from emotion_trainer.export.equalisation import equalised
from emotion_trainer.export.int8 import export_int8
from emotion_trainer.models import families
from emotion_trainer.models.families import mobilenet
from emotion_trainer.models.predictions import Faces, keras_logits, tflite_logits

SETTINGS = mobilenet.Settings(family="mobilenet", stem=8, stages=((16, 2), (24, 2)), head=32)


@pytest.fixture
def faces(dataset: Dataset) -> Faces:
    return dataset.validation.images


@pytest.fixture
def uneven() -> keras.Model:
    """A MobileNet of which every other depthwise channel is two hundred times smaller.

    The kernels that read these channels are as much larger.
    """
    keras.utils.set_random_seed(1)
    model = families.build(SETTINGS)
    found = 0
    for depthwise, norm, activation, reader in zip(
        model.layers, model.layers[1:], model.layers[2:], model.layers[3:], strict=False
    ):
        if isinstance(depthwise, layers.DepthwiseConv2D):
            assert isinstance(norm, layers.BatchNormalization)
            assert isinstance(activation, layers.ReLU)
            assert isinstance(reader, layers.Conv2D)
            found += 1
            sizes = np.ones(norm.gamma.shape[0], np.float32)
            sizes[::2] = 1 / 200
            gamma, beta, *statistics = norm.get_weights()
            norm.set_weights([gamma * sizes, beta * sizes, *statistics])
            reader.set_weights([reader.get_weights()[0] / sizes[:, np.newaxis]])
    assert found == 4
    return model


def test_equalised_model_has_the_same_function(uneven: keras.Model, faces: Faces) -> None:
    before = [weight.copy() for weight in uneven.get_weights()]
    copy = equalised(uneven, faces)
    expected = keras_logits(uneven, faces)
    np.testing.assert_allclose(keras_logits(copy, faces), expected, atol=1e-3 * expected.std())
    for old, new in zip(before, uneven.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_equalised_model_without_activation_has_even_channels(faces: Faces) -> None:
    keras.utils.set_random_seed(1)
    pixels = keras.Input((48, 48, 1))
    norm = layers.BatchNormalization()
    x = norm(layers.Conv2D(8, 3, 2)(pixels))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1)(x))
    model = keras.Model(pixels, layers.Dense(7)(x))
    sizes = np.where(np.arange(8) % 2, 1.0, 1 / 200)
    norm.set_weights([sizes, *norm.get_weights()[1:]])
    copy = equalised(model, faces)
    expected = keras_logits(model, faces)
    np.testing.assert_allclose(keras_logits(copy, faces), expected, atol=1e-3 * expected.std())
    gamma = copy.layers[2].get_weights()[0]
    assert gamma.max() / gamma.min() < 200 / 5


def test_equalised_model_without_such_layers_stays(faces: Faces) -> None:
    pixels = keras.Input((48, 48, 1))
    model = keras.Model(pixels, layers.Dense(7)(layers.Flatten()(pixels)))
    copy = equalised(model, faces[:4])
    np.testing.assert_array_equal(copy.get_weights()[0], model.get_weights()[0])


def test_int8_of_uneven_channels_keeps_the_logits(
    uneven: keras.Model, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = dataset.validation.images
    expected = keras_logits(uneven, faces)

    def error(name: str) -> float:
        export_int8(uneven, dataset.training, 1, tmp_path / name)
        difference = tflite_logits(tmp_path / name, faces) - expected
        return float(np.sqrt((difference**2).mean()) / expected.std())

    with_equalisation = error("equalised.tflite")
    monkeypatch.setattr("emotion_trainer.export.int8.equalised", lambda model, _: model)
    without = error("plain.tflite")
    assert with_equalisation < without / 3
