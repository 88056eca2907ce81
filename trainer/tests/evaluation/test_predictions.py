import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotion_trainer.data import Dataset
from emotion_trainer.evaluation import predictions
from emotion_trainer.evaluation.predictions import predictions_of, stored_predictions
from emotion_trainer.models.predictions import keras_logits, load_keras
from emotion_trainer.training.runs import Run


@pytest.fixture
def model(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(place / "run" / "best.keras", tmp_path))


def test_predictions_are_those_of_the_model(model: Path, dataset: Dataset) -> None:
    split = dataset.validation
    found = predictions_of(model, dataset)
    logits = keras_logits(load_keras(model), split.images)
    np.testing.assert_array_equal(found.log_probabilities.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert found.confusion.sum() == len(split)
    assert found.metrics.split == "PublicTest"


def test_predictions_stored_are_not_computed_again(
    model: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predictions_of(model, dataset)
    monkeypatch.delattr(predictions, "logits_of")
    again = predictions_of(model, dataset)
    np.testing.assert_array_equal(again.log_probabilities, first.log_probabilities)


def test_predictions_of_another_model_or_faces_are_recomputed(
    model: Path, dataset: Dataset
) -> None:
    split = dataset.validation
    mirrored = replace(dataset, validation=replace(split, images=split.images[:, :, ::-1]))
    first = predictions_of(model, dataset)
    assert not np.allclose(
        predictions_of(model, mirrored).log_probabilities, first.log_probabilities
    )
    with model.open("ab") as file:
        file.write(b"trained on")
    assert stored_predictions(model) is None


def test_predictions_cut_off_by_a_kill_are_recomputed(model: Path, dataset: Dataset) -> None:
    predictions_of(model, dataset)
    place = model.with_suffix(".predictions.npz")
    place.write_bytes(place.read_bytes()[:100])
    assert stored_predictions(model) is None
    assert len(predictions_of(model, dataset).labels) == len(dataset.validation)


def test_train_and_export_keep_them(place: Path) -> None:
    models = Run(place / "run").models()
    assert set(models) == {"float", "int8"}
    assert all(stored_predictions(path) is not None for path in models.values())
