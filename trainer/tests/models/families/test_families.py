from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from edge_daemon._lib.files import bundled_models
from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.data import Split
from emotion_trainer.export.int8 import export_int8
from emotion_trainer.models import families
from emotion_trainer.models.families.cost import mmac, parameters
from emotion_trainer.models.predictions import keras_logits, tflite_logits
from emotion_trainer.recipe import read_recipe

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.toml"))

TINY = {
    "seq1": {"blocks": [[8, 1], [16, 2]]},
    "seq2": {"widths": [8, 16, 16], "hidden": 8},
    "vgg16": {"widths": [8, 8, 8, 16, 16]},
    "densenet": {"stem": 8, "blocks": [[8, 2], [8, 1]]},
    "resnet": {"stem": 8, "stages": [[8, 1], [16, 1]]},
    "mobilenet": {"stem": 8, "stages": [[8, 2], [16, 1]], "expansion": 2, "head": 16},
}
# Multiply-accumulates, and weights with a bias a channel, of the tiny networks.
BY_HAND = {
    "seq1": (
        48**2 * 9 * 8 + 24**2 * 9 * (8 * 16 + 16 * 16) + 16 * 7,
        9 * 8 + 9 * 8 * 16 + 9 * 16 * 16 + 16 * 7 + 8 + 2 * 16 + 7,
    ),
    "seq2": (
        48**2 * 9 * 8 + 24**2 * 9 * 8 * 16 + 12**2 * 9 * 16 * 16 + 6 * 6 * 16 * 8 + 8 * 7,
        9 * (8 + 8 * 16 + 16 * 16) + 6 * 6 * 16 * 8 + 8 * 7 + 8 + 2 * 16 + 8 + 7,
    ),
    "vgg16": (
        9 * 48**2 * (8 + 8 * 8)
        + 9 * 24**2 * (2 * 8 * 8)
        + 9 * 12**2 * (3 * 8 * 8)
        + 9 * 6**2 * (8 * 16 + 2 * 16 * 16)
        + 9 * 3**2 * (3 * 16 * 16)
        + 16 * 7,
        9 * (8 + 6 * 8 * 8 + 8 * 16 + 5 * 16 * 16) + 16 * 7 + 7 * 8 + 6 * 16 + 7,
    ),
    "densenet": (
        48**2 * 9 * 8
        + 24**2 * ((8 + 16) * 16 + 2 * 9 * 16 * 8 + 24 * 8)
        + 12**2 * (8 * 16 + 9 * 16 * 8 + 16 * 16)
        + 16 * 7,
        (9 * 8 + 24 * 16 + 2 * 9 * 16 * 8 + 24 * 8 + 8 * 16 + 9 * 16 * 8 + 16 * 16 + 16 * 7)
        + (8 + 2 * (16 + 8) + 8 + 16 + 8 + 16 + 7),
    ),
    "resnet": (
        48**2 * 9 * 8
        + 24**2 * 2 * 9 * 8 * 8
        + 12**2 * (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16)
        + 16 * 7,
        (9 * 8 + 2 * 9 * 8 * 8 + 9 * 8 * 16 + 9 * 16 * 16 + 8 * 16 + 16 * 7)
        + (8 + 2 * 8 + 3 * 16 + 7),
    ),
    "mobilenet": (
        48**2 * 9 * 8
        + 24**2 * (9 * 8 + 8 * 8)
        + 24**2 * (8 * 16 + 9 * 16 + 16 * 8)
        + (24**2 * 8 * 16 + 12**2 * (9 * 16 + 16 * 16))
        + 12**2 * 16 * 16
        + 16 * 7,
        (9 * 8 + 9 * 8 + 8 * 8 + 8 * 16 + 9 * 16 + 16 * 8 + 8 * 16 + 9 * 16 + 2 * 16 * 16 + 16 * 7)
        + (8 + 8 + 8 + 16 + 16 + 8 + 16 + 16 + 16 + 16 + 7),
    ),
}


def settings_of(family: str) -> families.ModelSettings:
    adapter: TypeAdapter[families.ModelSettings] = TypeAdapter(families.ModelSettings)
    return adapter.validate_python({"family": family, **TINY[family]})


@pytest.mark.parametrize("family", TINY)
def test_counts_by_hand(family: str) -> None:
    model = families.build(settings_of(family))
    assert model.name == family
    assert model.input_shape == (None, 48, 48, 1)
    assert model.output_shape == (None, 7)
    assert (round(mmac(model) * 1e6), parameters(model)) == BY_HAND[family]


@pytest.mark.parametrize("family", TINY)
def test_width_and_depth_scale(family: str) -> None:
    settings = settings_of(family)
    cost = mmac(families.build(settings))
    for factor in ("width", "depth"):
        assert mmac(families.build(settings.model_copy(update={factor: 2.0}))) > 1.2 * cost


@pytest.mark.parametrize("family", TINY)
def test_int8_agrees_with_float(family: str, tmp_path: Path) -> None:
    model = families.build(settings_of(family))
    rng = np.random.default_rng(0)
    # Untrained logits differ little from face to face: coarse patterns keep faces unlike.
    coarse = rng.integers(0, 256, (96, 6, 6), dtype=np.uint8)
    faces = np.kron(coarse, np.ones((8, 8), np.uint8))
    faces[:, 0, :2] = 0, 255
    path = tmp_path / "tiny.tflite"
    split = Split(faces, np.zeros(len(faces), np.int64), np.zeros((len(faces), 10), np.uint8))
    export_int8(model, split, seed=0, path=path)

    original = keras_logits(model, faces)
    exported = tflite_logits(path, faces, batch=8)
    assert (original.argmax(axis=1) == exported.argmax(axis=1)).mean() > 0.8
    np.testing.assert_allclose(tflite_logits(path, faces[:9], batch=1), exported[:9], atol=1e-5)


BUDGETED = [
    path for path in RECIPES if getattr(read_recipe(path).model, "budget_mmac", None) is not None
]


@pytest.mark.parametrize("path", BUDGETED, ids=lambda path: path.stem)
def test_recipes_meet_their_budgets(path: Path) -> None:
    settings = read_recipe(path).model
    assert mmac(families.build(settings)) == pytest.approx(settings.budget_mmac, rel=0.05)


def test_recipes_are_of_the_six_families_and_dlib() -> None:
    assert {read_recipe(path).model.family for path in RECIPES} == {*TINY, "dlib_resnet"}


def test_bundled_members_cost_what_a_pi_can_run() -> None:
    folder = bundled_models()
    members = read_bundle(folder).members
    assert sum(member.mmac for member in members) < 150
    files = {member.file for member in members}
    assert sum((folder / name).stat().st_size for name in files) < 4e6


def test_small_resnet_has_the_size_of_its_recipe() -> None:
    model = families.build(read_recipe(RECIPES[0].with_name("resnet_s.toml")).model)
    assert mmac(model) == pytest.approx(20.73, abs=0.01)
    assert parameters(model) == 619_807
