import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotion_trainer.data import Dataset
from emotion_trainer.evaluation import answers
from emotion_trainer.evaluation.answers import answers_of, kept_answers
from emotion_trainer.models.predictions import keras_logits, load_keras
from emotion_trainer.training.runs import Run


@pytest.fixture
def model(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(place / "run" / "best.keras", tmp_path))


def test_answers_are_the_models(model: Path, dataset: Dataset) -> None:
    split = dataset.validation
    found = answers_of(model, dataset)
    logits = keras_logits(load_keras(model), split.images)
    np.testing.assert_array_equal(found.log_probabilities.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert found.confusion.sum() == len(split)
    assert found.metrics.split == "PublicTest"


def test_no_model_is_asked_twice(
    model: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answers_of(model, dataset)
    monkeypatch.delattr(answers, "logits_of")
    again = answers_of(model, dataset)
    np.testing.assert_array_equal(again.log_probabilities, first.log_probabilities)


def test_answers_of_another_model_or_faces_are_recomputed(model: Path, dataset: Dataset) -> None:
    split = dataset.validation
    mirrored = replace(dataset, validation=replace(split, images=split.images[:, :, ::-1]))
    first = answers_of(model, dataset)
    assert not np.allclose(answers_of(model, mirrored).log_probabilities, first.log_probabilities)
    with model.open("ab") as file:
        file.write(b"trained on")
    assert kept_answers(model) is None


def test_answers_cut_off_by_a_kill_are_asked_for_again(model: Path, dataset: Dataset) -> None:
    answers_of(model, dataset)
    place = model.with_suffix(".answers.npz")
    place.write_bytes(place.read_bytes()[:100])
    assert kept_answers(model) is None
    assert len(answers_of(model, dataset).labels) == len(dataset.validation)


def test_train_and_export_keep_them(place: Path) -> None:
    models = Run(place / "run").models()
    assert set(models) == {"float", "int8"}
    assert all(kept_answers(path) is not None for path in models.values())
