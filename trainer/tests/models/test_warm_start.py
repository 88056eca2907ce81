from pathlib import Path

import keras
import numpy as np
import pytest

from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError
from emotion_trainer.export.int8 import export_int8
from emotion_trainer.models import families
from emotion_trainer.models.families import densenet, mobilenet, resnet, vgg16
from emotion_trainer.models.predictions import keras_logits, tflite_logits
from emotion_trainer.models.warm_start import STATISTICS_FACES, FoldedLayer, unfold, warm_start
from emotion_trainer.recipe import Recipe
from emotion_trainer.training.runs import Run
from emotion_trainer.training.trainer import Trainer

SMALL = (
    resnet.Settings(family="resnet", stem=8, stages=((8, 1), (16, 2))),
    vgg16.Settings(family="vgg16", widths=(8, 8, 8, 8, 8)),
    mobilenet.Settings(family="mobilenet", stem=8, stages=((8, 1), (16, 2)), head=32),
    densenet.Settings(family="densenet", stem=8, blocks=((8, 2), (8, 2))),
)


def with_uneven_scales(model: keras.Model) -> keras.Model:
    """Normalisations as training leaves them: channels whose scales differ a thousandfold."""
    rng = np.random.default_rng(4)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.gamma.shape[0]
            gamma = np.exp(rng.uniform(np.log(0.01), np.log(2.0), channels))
            beta, mean = rng.normal(0.3, 0.3, (2, channels))
            layer.set_weights([gamma, beta, mean, rng.uniform(0.2, 2.0, channels)])
    return model


@pytest.mark.parametrize("settings", SMALL, ids=lambda one: one.family)
def test_warm_start_int8_file_predicts_alike(
    settings: families.ModelSettings, tmp_path: Path, dataset: Dataset
) -> None:
    path = tmp_path / "model.tflite"
    export_int8(with_uneven_scales(families.build(settings)), dataset.training, 0, path)
    started = families.build(settings)
    warm_start(started, path, dataset.training.images)
    faces = dataset.validation.images
    expected = tflite_logits(path, faces)
    found = keras_logits(started, faces)
    deviation = expected.std()
    assert np.abs(found - expected).mean() < 0.3 * deviation
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


def test_unfold_normalises_kernels_and_keeps_outputs(dataset: Dataset) -> None:
    settings = SMALL[0]
    original = with_uneven_scales(families.build(settings))
    pairs = []
    model = families.build(settings)
    for layer, old in zip(model.layers, original.layers, strict=True):
        if isinstance(layer, keras.layers.Conv2D):
            norm = next(n.operation for n in old._outbound_nodes)
            gamma, beta, mean, variance = norm.get_weights()
            scale = gamma / np.sqrt(variance + norm.epsilon)
            pairs.append((layer, FoldedLayer(old.kernel.numpy() * scale, beta - mean * scale)))
        elif isinstance(layer, keras.layers.Dense):
            pairs.append((layer, FoldedLayer(*old.get_weights())))
    unfold(model, pairs, dataset.training.images[:100])
    faces = dataset.validation.images
    expected = keras_logits(original, faces)
    np.testing.assert_allclose(
        keras_logits(model, faces), expected, atol=2e-5 * max(1.0, np.abs(expected).max())
    )
    kernel = next(x for x in model.layers if isinstance(x, keras.layers.Conv2D)).kernel.numpy()
    np.testing.assert_allclose(np.square(kernel).sum(axis=(0, 1, 2)), 1.0, rtol=1e-5)


def test_unfold_statistics_are_of_the_faces(dataset: Dataset) -> None:
    """With these statistics training's first batch is normalised as inference is."""
    settings = SMALL[0]
    model = with_uneven_scales(families.build(settings))
    first = next(x for x in model.layers if isinstance(x, keras.layers.Conv2D))
    bias = np.linspace(-1.0, 1.0, 8, dtype=np.float32)
    faces = dataset.training.images
    unfold(model, [(first, FoldedLayer(first.kernel.numpy(), bias))], faces)
    pixels = faces[..., np.newaxis].astype(np.float32)
    output = keras.Model(model.input, first.output).predict(pixels, verbose=0)
    norm = next(n.operation for n in first._outbound_nodes)
    np.testing.assert_allclose(norm.moving_mean.numpy(), output.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(
        norm.moving_variance.numpy(), output.var(axis=(0, 1, 2)), rtol=1e-3, atol=1e-6
    )


def test_unfold_statistics_of_sorted_faces_are_of_all(dataset: Dataset) -> None:
    """In folders, the first faces are all angry; here, dark."""
    model = families.build(SMALL[0])
    first = next(x for x in model.layers if isinstance(x, keras.layers.Conv2D))
    norm = next(n.operation for n in first._outbound_nodes)
    folded = FoldedLayer(first.kernel.numpy(), np.zeros(8, np.float32))
    dark = np.concatenate([dataset.training.images // 8] * 2)
    faces = np.concatenate([dark, *[dataset.training.images] * 2])
    assert len(dark) > STATISTICS_FACES

    def means(of: np.ndarray) -> np.ndarray:
        unfold(model, [(first, folded)], of)
        return norm.moving_mean.numpy()

    of_dark, of_all = means(dark), means(faces)
    pixels = faces[..., np.newaxis].astype(np.float32)
    outputs = keras.Model(model.input, first.output).predict(pixels, verbose=0)
    expected = outputs.mean(axis=(0, 1, 2))
    assert np.abs(of_all - expected).max() < 0.2 * np.abs(of_dark - expected).max()


def test_warm_start_keras_file_copies_weights(tmp_path: Path, dataset: Dataset) -> None:
    original = families.build(SMALL[1])
    original.save(tmp_path / "model.keras")
    started = families.build(SMALL[1])
    warm_start(started, tmp_path / "model.keras", dataset.training.images)
    for found, expected in zip(started.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_warm_start_other_architecture_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    path = tmp_path / "model.tflite"
    export_int8(families.build(SMALL[1]), dataset.training, 0, path)
    families.build(SMALL[1]).save(tmp_path / "model.keras")
    for file in (path, tmp_path / "model.keras"):
        with pytest.raises(RecipeError, match=r"^start: "):
            warm_start(families.build(SMALL[0]), file, dataset.training.images)


@pytest.mark.parametrize("content", [None, b"", b"no model" * 20])
def test_warm_start_unreadable_file_is_refused(
    content: bytes | None, tmp_path: Path, dataset: Dataset
) -> None:
    for path in (tmp_path / "model.tflite", tmp_path / "model.keras"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RecipeError, match=r"^start: "):
            warm_start(families.build(SMALL[0]), path, dataset.training.images)


def test_train_start_continues_from_the_file(
    place: Path, tmp_path: Path, dataset: Dataset, recipe: Recipe
) -> None:
    """An epoch at a rate of next to nothing leaves the accuracy that the file has."""
    gentle = recipe.optimisation.model_copy(
        update={"epochs": 1, "learning_rate": 1e-9, "weight_decay": 0.0}
    )
    model = recipe.model.model_copy(update={"dropout": 0.0})
    file = Run(place / "run").int8_path
    started = recipe.model_copy(update={"start": file, "optimisation": gentle, "model": model})
    run = Run(tmp_path / "run")
    best = Trainer(started, dataset, run).run()
    predictions = tflite_logits(file, dataset.validation.images).argmax(axis=1)
    expected = (predictions == dataset.validation.labels).mean()
    assert best.score == pytest.approx(float(expected), abs=0.08)
    assert expected > 0.5
    (origin,) = run.record().start_origins
    assert origin.name == "tiny"
    assert origin.sha256 == run.record().start_sha256
