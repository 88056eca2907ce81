import hashlib
from pathlib import Path

import pytest

from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError
from emotion_trainer.models.families import backbone
from emotion_trainer.recipe import Recipe
from emotion_trainer.training.provenance import record_of
from emotion_trainer.training.runs import Run


def with_weights(recipe: Recipe, weights: Path) -> Recipe:
    model = backbone.Settings(family="backbone", weights=weights, licence="MIT")
    return recipe.model_copy(update={"model": model, "bundled": False})


def test_record_has_the_checksum_of_initial_weights(
    recipe: Recipe, dataset: Dataset, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.npz"
    weights.write_bytes(b"weights")
    record = record_of(with_weights(recipe, weights), dataset)
    assert record.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert record_of(recipe, dataset).weights_sha256 is None
    weights.write_bytes(b"others")
    assert record.is_same_training(record_of(with_weights(recipe, weights), dataset))


def test_record_without_the_weights_file_is_refused(
    recipe: Recipe, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"^model\.weights: "):
        record_of(with_weights(recipe, tmp_path / "absent.npz"), dataset)


def test_record_before_the_first_epoch_follows_the_weights(
    recipe: Recipe, dataset: Dataset, tmp_path: Path
) -> None:
    weights, run = tmp_path / "weights.npz", Run(tmp_path / "run")
    for content, is_kept in ((b"first", False), (b"second", True), (b"third", True)):
        weights.write_bytes(content)
        run.begin(record_of(with_weights(recipe, weights), dataset))
        if is_kept:
            run.checkpoint.touch()
    assert run.record().weights_sha256 == hashlib.sha256(b"second").hexdigest()
