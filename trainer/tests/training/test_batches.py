import numpy as np
import pytest

from emotion_trainer.data import Dataset
from emotion_trainer.recipe import Recipe
from emotion_trainer.training.batches import epoch_batches

LABELLED = np.eye(7, dtype=np.float32)


def batches(
    dataset: Dataset, recipe: Recipe, epoch: int, mixup: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    augmentation = recipe.augmentation.model_copy(update={"mixup": mixup})
    mixing = recipe.model_copy(update={"augmentation": augmentation})
    targets = LABELLED[dataset.training.labels]
    return list(epoch_batches(dataset.training.images, targets, mixing, epoch))


def test_epoch_batches_have_each_face_once(dataset: Dataset, recipe: Recipe) -> None:
    seen = batches(dataset, recipe, epoch=1, mixup=0.0)
    assert [(len(faces), len(targets)) for faces, targets in seen] == [(32, 32)] * 14
    counted = np.concatenate([targets for _, targets in seen]).sum(axis=0)
    np.testing.assert_array_equal(counted, np.bincount(dataset.training.labels))


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_batches_depend_on_seed_and_epoch_only(
    mixup: float, dataset: Dataset, recipe: Recipe
) -> None:
    first, again, other = (batches(dataset, recipe, epoch, mixup) for epoch in (2, 2, 3))
    for (faces, targets), (same_faces, same_targets) in zip(first, again, strict=True):
        np.testing.assert_array_equal(faces, same_faces)
        np.testing.assert_array_equal(targets, same_targets)
    assert not np.array_equal(first[0][0], other[0][0])


def test_batches_with_mixup_have_mixed_targets(dataset: Dataset, recipe: Recipe) -> None:
    targets = np.concatenate([t for _, t in batches(dataset, recipe, epoch=1, mixup=1.0)])
    assert targets.sum(axis=1) == pytest.approx(1.0)
    assert ((targets > 0.0).sum(axis=1) == 2).mean() > 0.7
