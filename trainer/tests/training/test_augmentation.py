import numpy as np
import pytest

from emotion_trainer.data import Dataset
from emotion_trainer.recipe import Augmentation
from emotion_trainer.training.augmentation import augment

STRONG = Augmentation(
    rotation=15.0,
    shift=0.1,
    zoom=1.2,
    stretch=1.1,
    contrast=1.5,
    brightness=40.0,
    coarsening=1.0,
    coarsest=16,
    erasing=1.0,
)


def test_gives_grey_levels_of_the_same_size(dataset: Dataset) -> None:
    changed, _ = augment(dataset.training.images, STRONG, np.random.default_rng(1))
    assert changed.shape == (len(dataset.training), 48, 48, 1)
    assert changed.dtype == np.float32
    assert changed.min() >= 0.0
    assert changed.max() <= 255.0


def test_the_same_seed_gives_the_same_pictures(dataset: Dataset) -> None:
    first, second = (
        augment(dataset.training.images[:20], STRONG, np.random.default_rng(5))[0] for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_without_strength_pictures_are_only_mirrored(dataset: Dataset) -> None:
    images = dataset.training.images[:50]
    changed, mirrored = augment(images, Augmentation(), np.random.default_rng(1))
    for face, image, is_mirrored in zip(changed[..., 0], images, mirrored, strict=True):
        np.testing.assert_allclose(face, image[:, ::-1] if is_mirrored else image, atol=1e-2)
    assert 10 < mirrored.sum() < 40


def test_rotation_turns_about_the_centre() -> None:
    image = np.zeros((1, 48, 48), np.uint8)
    image[0, 22:26, 22:26] = 200
    changed, _ = augment(image, Augmentation(rotation=90.0), np.random.default_rng(2))
    rows, columns = np.nonzero(changed[0, ..., 0])
    assert rows.mean() == pytest.approx(23.5, abs=0.1)
    assert columns.mean() == pytest.approx(23.5, abs=0.1)
