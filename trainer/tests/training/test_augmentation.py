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
    downscale_probability=1.0,
    min_downscaled_side=16,
    erasing_probability=1.0,
)


def test_augment_returns_grey_levels_of_the_same_size(dataset: Dataset) -> None:
    changed = augment(dataset.training.images, STRONG, np.random.default_rng(1))
    assert changed.shape == (len(dataset.training), 48, 48, 1)
    assert changed.dtype == np.float32
    assert changed.min() >= 0.0
    assert changed.max() <= 255.0


def test_augment_same_seed_returns_the_same_faces(dataset: Dataset) -> None:
    first, second = (
        augment(dataset.training.images[:20], STRONG, np.random.default_rng(5)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_augment_default_settings_only_mirror(dataset: Dataset) -> None:
    images = dataset.training.images[:50]
    changed = augment(images, Augmentation(), np.random.default_rng(1))[..., 0]
    is_kept, is_mirrored = (
        np.isclose(changed, view, atol=1e-2).all(axis=(1, 2))
        for view in (images, images[:, :, ::-1])
    )
    assert (is_kept ^ is_mirrored).all()
    assert 10 < is_mirrored.sum() < 40


COUNT = 300


def augmented(face: np.ndarray, **settings: float) -> np.ndarray:
    """Many views of a face by these settings alone, float32 [COUNT, 48, 48]."""
    faces = np.repeat(face[np.newaxis], COUNT, axis=0)
    return augment(faces, Augmentation(**settings), np.random.default_rng(2))[..., 0]


def rectangle(width: int, height: int) -> np.ndarray:
    """A bright rectangle in the centre of a black image."""
    face = np.zeros((48, 48), np.uint8)
    top, left = (48 - height) // 2, (48 - width) // 2
    face[top : top + height, left : left + width] = 200
    return face


def noise() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (48, 48), np.uint8)


def centres(views: np.ndarray) -> np.ndarray:
    """Row and column of the centre of brightness, [N, 2]."""
    mass = views.sum(axis=(1, 2))
    rows, columns = views.sum(axis=2), views.sum(axis=1)
    places = np.arange(48)
    return np.stack([(part * places).sum(axis=1) / mass for part in (rows, columns)], axis=1)


def sides(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Width and height of the bright rectangle, measured through its centre."""
    across, down = views[:, 23:25].mean(axis=1), views[:, :, 23:25].mean(axis=2)
    return across.sum(axis=1) / 200, down.sum(axis=1) / 200


def assert_factors(found: np.ndarray, limit: float) -> None:
    """They reach from `1 / limit` to `limit`, as often below 1 as above."""
    assert 1 / limit * 0.98 < found.min() < 1 / limit * 1.05
    assert limit * 0.95 < found.max() < limit * 1.02
    assert 0.4 < (found < 1.0).mean() < 0.6


def test_rotation_turns_about_the_centre_either_way() -> None:
    views = augmented(rectangle(36, 4), rotation=40.0)
    np.testing.assert_allclose(centres(views), 23.5, atol=0.3)
    places = np.arange(48) - 23.5
    rows, columns = np.meshgrid(places, places, indexing="ij")
    moments = [(views * part).sum(axis=(1, 2)) for part in (rows * columns, columns**2 - rows**2)]
    angles = np.degrees(np.arctan2(2 * moments[0], moments[1]) / 2)
    assert -41.0 < angles.min() < -37.0
    assert 37.0 < angles.max() < 41.0
    assert abs(np.median(angles)) < 8.0


def test_shift_moves_along_both_axes() -> None:
    moved = centres(augmented(rectangle(6, 6), shift=0.25)) - 23.5
    assert (np.abs(moved) < 12.1).all()
    assert (moved.min(axis=0) < -11.0).all()
    assert (moved.max(axis=0) > 11.0).all()
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.2


def test_zoom_changes_both_sides_alike() -> None:
    width, height = sides(augmented(rectangle(20, 20), zoom=1.5))
    np.testing.assert_allclose(width, height, rtol=0.02)
    assert_factors(width / 20, 1.5)


def test_stretch_changes_the_width_alone() -> None:
    width, height = sides(augmented(rectangle(20, 20), stretch=1.5))
    np.testing.assert_allclose(height, 20, rtol=0.02)
    assert_factors(width / 20, 1.5)


def test_contrast_changes_differences_and_keeps_the_mean() -> None:
    face = np.full((48, 48), 100, np.uint8)
    face[:24] = 140
    views = augmented(face, contrast=2.0)
    np.testing.assert_allclose(views.mean(axis=(1, 2)), 120, atol=0.1)
    assert_factors(np.ptp(views, axis=(1, 2)) / 40, 2.0)


def test_brightness_adds_grey_levels_either_way() -> None:
    views = augmented(np.full((48, 48), 128, np.uint8), brightness=60.0)
    added = views.mean(axis=(1, 2)) - 128
    assert -60.0 <= added.min() < -57.0
    assert 57.0 < added.max() <= 60.0
    np.testing.assert_allclose(np.ptp(views, axis=(1, 2)), 0, atol=1e-3)


def detail(views: np.ndarray) -> np.ndarray:
    """Differences between neighbours, in parts of those of the noise."""
    whole = np.abs(np.diff(noise().astype(np.float32))).mean()
    found: np.ndarray = np.abs(np.diff(views, axis=2)).mean(axis=(1, 2)) / whole
    return found


def test_downscale_probability_is_the_share_of_downscaled_faces() -> None:
    views = augmented(noise(), downscale_probability=0.3, min_downscaled_side=16)
    assert 0.2 < (detail(views) < 0.9).mean() < 0.4


def test_min_downscaled_side_limits_the_loss_of_detail() -> None:
    few, many = (
        detail(augmented(noise(), downscale_probability=1.0, min_downscaled_side=side))
        for side in (12, 40)
    )
    assert few.min() < 0.1
    assert many.min() > 0.3
    assert few.max() == pytest.approx(1.0)


def covered(views: np.ndarray) -> np.ndarray:
    """Whether a pixel of a black image is covered by a patch, bool [N, 48, 48]."""
    found: np.ndarray = views > 0.0
    return found


def test_erasing_probability_is_the_share_of_faces_with_a_patch() -> None:
    views = augmented(np.zeros((48, 48), np.uint8), erasing_probability=0.3)
    patches = covered(views)
    erased = patches.any(axis=(1, 2))
    assert 0.2 < erased.mean() < 0.4
    for view, patch in zip(views[erased], patches[erased], strict=True):
        rows, columns = patch.any(axis=1), patch.any(axis=0)
        assert patch.sum() == rows.sum() * columns.sum()
        assert len(np.unique(view[patch])) == 1
    assert np.ptp(views[erased].max(axis=(1, 2))) > 200


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_max_erased_area_is_the_maximum_share_covered(share: float) -> None:
    views = augmented(np.zeros((48, 48), np.uint8), erasing_probability=1.0, max_erased_area=share)
    patches = covered(views)
    areas = patches.mean(axis=(1, 2))
    assert 0.01 < areas.min() < 0.04
    assert 0.9 * share < areas.max() < 1.1 * share
    corners = np.stack([patches.any(axis=2).argmax(axis=1), patches.any(axis=1).argmax(axis=1)])
    assert (np.ptp(corners, axis=1) > 20).all()
