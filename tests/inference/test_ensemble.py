import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw_face

from edge_daemon import EmotionEnsemble
from edge_daemon._lib.files import bundled_models
from edge_daemon.errors import BundleError
from edge_daemon.inference.bundle import Bundle, read_bundle, write_bundle
from edge_daemon.inference.ensemble import BatchModel, log_softmax, pool
from edge_daemon.records import Image

MOST = 20


@pytest.fixture(scope="module")
def ensemble() -> EmotionEnsemble:
    return EmotionEnsemble.load()


@pytest.fixture(scope="module")
def faces() -> Image:
    """A drawn face with increasing noise, so that all differ."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0, np.linspace(0, 60, MOST)[:, None, None], (MOST, 48, 48))
    return np.clip(draw_face(48) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def one_by_one(ensemble: EmotionEnsemble, faces: Image) -> np.ndarray:
    return np.concatenate([ensemble.predict(faces[i : i + 1]) for i in range(MOST)])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 9, 20])
def test_any_number_of_faces_gives_what_each_gives_alone(
    ensemble: EmotionEnsemble, faces: Image, one_by_one: np.ndarray, count: int
) -> None:
    together = ensemble.predict(faces[:count])
    assert (together.shape, together.dtype) == ((count, 7), np.float32)
    np.testing.assert_allclose(together, one_by_one[:count], atol=1e-5)


def test_rows_are_distributions_and_not_all_the_same(one_by_one: np.ndarray) -> None:
    np.testing.assert_allclose(one_by_one.sum(axis=1), 1, atol=1e-6)
    assert (one_by_one >= 0).all()
    assert np.ptp(one_by_one, axis=0).max() > 0.05


def test_order_of_the_faces_is_kept(
    ensemble: EmotionEnsemble, faces: Image, one_by_one: np.ndarray
) -> None:
    np.testing.assert_allclose(ensemble.predict(faces[::-1]), one_by_one[::-1], atol=1e-5)


def test_faces_are_left_as_they_are(ensemble: EmotionEnsemble, faces: Image) -> None:
    before = faces.copy()
    ensemble.predict(faces)
    assert np.array_equal(faces, before)


def test_ensemble_result_is_not_overwritten_by_the_next(
    ensemble: EmotionEnsemble, faces: Image
) -> None:
    first = ensemble.predict(faces[:2])
    kept = first.copy()
    ensemble.predict(faces[2:4])
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 48, 48), np.float32),
        np.zeros((1, 48, 48), np.int8),
        np.zeros((48, 48), np.uint8),
        np.zeros((1, 48, 48, 1), np.uint8),
        np.zeros((1, 64, 64), np.uint8),
        np.zeros((0, 48, 47), np.uint8),
    ],
)
def test_other_types_and_shapes_are_refused(ensemble: EmotionEnsemble, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[N, 48, 48\]") as refused:
        ensemble.predict(wrong)
    assert str(wrong.dtype) in str(refused.value)


@pytest.mark.parametrize("members", [0, -1, 4])
def test_other_numbers_of_models_are_refused(
    ensemble: EmotionEnsemble, faces: Image, members: int
) -> None:
    with pytest.raises(ValueError, match="1 to 3"):
        ensemble.predict(faces, members)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The file and the batch size of each interpreter that is built."""
    built: list[tuple[str, int]] = []

    class Noted(BatchModel):
        def __init__(self, path: Path, batch: int, *more: Any) -> None:
            built.append((path.name, batch))
            super().__init__(path, batch, *more)

    monkeypatch.setattr("edge_daemon.inference.ensemble.BatchModel", Noted)
    return built


def bundle_of(
    folder: Path,
    weights: list[float],
    temperatures: tuple[float, ...] | None = None,
    adjustment: dict[str, float] | None = None,
    *,
    mirrored: tuple[bool, ...] | None = None,
    shared: bool = False,
) -> EmotionEnsemble:
    """The first bundled member several times, with these weights, each in a file of its own."""
    folder.mkdir()
    bundle = read_bundle(bundled_models())
    first = bundle.members[0]
    members = tuple(
        first.model_copy(
            update={
                "file": first.file if shared else f"{number}_{first.file}",
                "weight": weight,
                "mirrored": mirrored is not None and mirrored[number],
            }
        )
        for number, weight in enumerate(weights)
    )
    for member in members:
        shutil.copy(bundled_models() / first.file, folder / member.file)
    mixed = bundle.ensemble.model_copy(
        update={
            "adjustment": adjustment or {},
            "temperatures": temperatures or (1.0,) * len(weights),
        }
    )
    write_bundle(bundle.model_copy(update={"members": members, "ensemble": mixed}), folder)
    return EmotionEnsemble.load(folder)


def test_interpreters_are_built_when_first_needed_and_then_kept(
    tmp_path: Path, faces: Image, built: list[tuple[str, int]]
) -> None:
    ensemble = bundle_of(tmp_path / "one", [1.0])
    sizes = []
    for count in (1, 3, 4, 9, 12, 3, 1):
        ensemble.predict(faces[:count])
        sizes.append([size for _, size in built])
    one, two, four, eight = [1], [1, 2], [1, 2, 4], [1, 2, 4, 8]
    assert sizes == [one, two, four, eight, eight, eight, eight]


@pytest.mark.parametrize("count", [1, 3, 20])
def test_ensemble_members_with_one_file_share_interpreters(
    tmp_path: Path, faces: Image, built: list[tuple[str, int]], count: int
) -> None:
    views = (False, True, False)
    weights = [0.2, 0.5, 0.3]
    apart = bundle_of(tmp_path / "apart", weights, mirrored=views)
    built.clear()
    together = bundle_of(tmp_path / "together", weights, mirrored=views, shared=True)
    for members in (1, 2, None):
        np.testing.assert_allclose(
            together.predict(faces[:count], members),
            apart.predict(faces[:count], members),
            atol=1e-6,
        )
    of_shared = [size for file, size in built if not file[0].isdigit()]
    assert len(of_shared) == len(set(of_shared))


def test_weights_are_shares_so_that_equal_members_change_nothing(
    tmp_path: Path, faces: Image
) -> None:
    alone = bundle_of(tmp_path / "alone", [1.0])
    doubled = bundle_of(tmp_path / "doubled", [0.3, 5.0])
    assert (len(alone), len(doubled)) == (1, 2)
    np.testing.assert_allclose(doubled.predict(faces), alone.predict(faces), atol=1e-5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_only_a_mirrored_member_sees_faces_the_other_way_round(
    tmp_path: Path, faces: Image, *, mirrored: bool
) -> None:
    ensemble = bundle_of(tmp_path / "one", [1.0], mirrored=(mirrored,))
    network = BatchModel(tmp_path / "one" / ensemble.bundle.members[0].file, MOST, 1)
    as_is, turned = (
        np.exp(log_softmax(network.logits(seen))) for seen in (faces, faces[..., ::-1])
    )
    expected, other = (turned, as_is) if mirrored else (as_is, turned)
    np.testing.assert_allclose(ensemble.predict(faces), expected, atol=1e-5)
    assert np.abs(expected - other).max() > 0.01


class Fixed:
    """A model with constant logits."""

    answers = iter(())

    def __init__(self, *_: object) -> None:
        self._logits = np.log(np.array(next(Fixed.answers), np.float32))

    def logits(self, faces: Image) -> np.ndarray:
        return np.tile(self._logits, (len(faces), 1))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    rows = [[0.5, 0.25, 0.05, 0.05, 0.05, 0.05, 0.05], [0.1, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1]]
    monkeypatch.setattr("edge_daemon.inference.ensemble.BatchModel", Fixed)
    monkeypatch.setattr(Fixed, "answers", iter(rows))
    return rows


def test_ensemble_mean_is_weighted_and_tempered(tmp_path: Path, answers: list[list[float]]) -> None:
    ensemble = bundle_of(tmp_path / "two", [3.0, 1.0], temperatures=(4.0, 2.0))
    (row,) = ensemble.predict(np.zeros((1, 48, 48), np.uint8))
    first, second = np.array(answers)
    expected = (first**0.75 * second**0.25) ** (1 / 2.0)
    np.testing.assert_allclose(row, expected / expected.sum(), atol=1e-6)


def test_ensemble_used_members_share_the_whole_weight(
    tmp_path: Path, answers: list[list[float]]
) -> None:
    ensemble = bundle_of(tmp_path / "two", [3.0, 1.0], temperatures=(4.0, 2.0))
    (row,) = ensemble.predict(np.zeros((1, 48, 48), np.uint8), members=1)
    expected = np.array(answers[0]) ** (1 / 4.0)
    np.testing.assert_allclose(row, expected / expected.sum(), atol=1e-6)


def test_ensemble_adjustment_precedes_the_temperature(
    tmp_path: Path, answers: list[list[float]]
) -> None:
    raised = {"fear": 2.0, "angry": -0.5}
    ensemble = bundle_of(tmp_path / "two", [3.0, 1.0], (4.0, 2.0), raised)
    (row,) = ensemble.predict(np.zeros((1, 48, 48), np.uint8))
    first, second = np.array(answers)
    mixed = first**0.75 * second**0.25 * np.exp([-0.5, 0, 2, 0, 0, 0, 0])
    expected = mixed ** (1 / 2.0)
    np.testing.assert_allclose(row, expected / expected.sum(), atol=1e-6)


def test_pool_of_one_member_has_full_weight_and_adjustment() -> None:
    rng = np.random.default_rng(3)
    logs = log_softmax(rng.normal(0, 2, (2, 5, 7)).astype(np.float32))
    weights, adjustment = np.array([0.3, 0.7]), np.arange(7) / 10
    alone = pool(logs[:1], weights[:1], adjustment, temperature=0.8)
    np.testing.assert_allclose(alone, log_softmax((logs[0] + adjustment) / 0.8), atol=1e-5)
    assert alone.dtype == np.float32


def test_higher_temperature_makes_less_certain(tmp_path: Path, faces: Image) -> None:
    cool = bundle_of(tmp_path / "cool", [1.0], (0.5,)).predict(faces)
    hot = bundle_of(tmp_path / "hot", [1.0], (5.0,)).predict(faces)
    assert (cool.max(axis=1) > hot.max(axis=1)).all()
    assert np.array_equal(cool.argmax(axis=1), hot.argmax(axis=1))


def test_softmax_does_not_overflow() -> None:
    logits = np.array([[1e4, 0, -1e4], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), [[1, 0, 0], [1 / 3] * 3], atol=1e-6)


def test_folder_can_be_given_as_text(tmp_path: Path) -> None:
    copy = shutil.copytree(bundled_models(), tmp_path / "bundle")
    assert isinstance(EmotionEnsemble.load(str(copy)).bundle, Bundle)


def test_refused_bundle_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json"):
        EmotionEnsemble.load(tmp_path)


def test_installed_models_come_before_those_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "edge_daemon"
    package.mkdir(parents=True)
    monkeypatch.setattr("edge_daemon._lib.files.__file__", str(package / "_lib" / "resources.py"))
    assert bundled_models() == tmp_path / "site" / "models"
    (package / "models").mkdir()
    assert bundled_models() == package / "models"
