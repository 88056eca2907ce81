from collections.abc import Callable

import numpy as np
import pytest
from conftest import draw_split

from emotion_trainer.data import Dataset
from emotion_trainer.evaluation import robustness
from emotion_trainer.evaluation.robustness import (
    DEGRADATIONS,
    Faces,
    blur,
    compress,
    darken,
    measure_robustness,
    reduce_size,
    tables,
)


def fine_stripes(count: int = 4) -> Faces:
    """Faces of stripes one pixel wide, which every loss of detail wipes out."""
    row = np.tile(np.array([40, 220], np.uint8), 24)
    return np.broadcast_to(row, (count, 48, 48)).copy()


def detail(faces: Faces) -> float:
    return float(np.abs(np.diff(faces.astype(float), axis=2)).mean())


@pytest.mark.parametrize(
    ("apply", "none", "some", "most"), [(reduce_size, 48, 40, 16), (blur, 0, 0.5, 3)]
)
def test_degradation_removes_detail_with_its_level(
    apply: Callable[[Faces, float], Faces], none: float, some: float, most: float
) -> None:
    faces = fine_stripes()
    np.testing.assert_array_equal(apply(faces, none), faces)
    assert detail(faces) > detail(apply(faces, some)) > detail(apply(faces, most))


def test_darken_halves_the_light_and_adds_noise() -> None:
    faces = np.full((4, 48, 48), 200, np.uint8)
    dim = darken(faces, 0.5)
    assert dim.mean() == pytest.approx(200 * 0.5 ** (1 / 2.2), rel=0.02)
    dark = darken(faces, 1 / 32)
    assert dark.std() / dark.mean() > 2 * dim.std() / dim.mean() > 0
    np.testing.assert_array_equal(dark, darken(faces, 1 / 32))
    assert darken(np.zeros_like(faces), 1.0).std() > 0


def test_compress_loses_more_at_lower_quality(dataset: Dataset) -> None:
    faces = dataset.validation.images[:8]

    def loss(quality: float) -> float:
        return float(np.abs(compress(faces, quality).astype(float) - faces).mean())

    assert 0 < loss(95) < loss(30)


def test_measure_robustness_has_an_accuracy_of_each_level() -> None:
    split = draw_split(70, seed=5)

    def predict(faces: Faces) -> dict[str, np.ndarray]:
        """One model finds the bright bar, the other is always wrong."""
        rows = np.stack([faces[:, n * 6 + 3 : n * 6 + 9].mean(axis=(1, 2)) for n in range(7)], 1)
        return {"bar": rows, "wrong": -rows}

    found = measure_robustness(predict, split)
    assert found.faces == 70
    for kind, curve in zip(DEGRADATIONS, found.curves, strict=True):
        assert len(curve.accuracies["bar"]) == len(curve.sharpness) == len(kind.levels)
        assert curve.accuracies["bar"][0] == 1.0
        assert max(curve.accuracies["wrong"]) == 0.0
    blurred = found.curves[1]
    assert sorted(blurred.sharpness, reverse=True) == blurred.sharpness
    bins = found.by_sharpness
    assert sum(one.faces for one in bins) == 70 * len(DEGRADATIONS[1].levels)
    assert {one.accuracy for one in bins if one.faces} == {1.0}
    assert {one.accuracy for one in bins if not one.faces} <= {None}
    text = tables(found)
    assert text.keys() == {*(kind.name for kind in DEGRADATIONS), "sharpness"}
    assert "| 48 | 1.000 | 0.000 |" in text["face_size"]


def test_measure_robustness_uses_a_part_of_many_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "MAX_FACES", 30)
    found = measure_robustness(lambda faces: {"m": np.zeros((len(faces), 7))}, draw_split(70, 5))
    assert found.faces == 24
