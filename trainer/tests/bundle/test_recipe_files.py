import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import RECIPE, write_unlabelled

from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.bundle.recipe_files import find_recipe
from emotion_trainer.bundle.records import read_bundling
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset
from emotion_trainer.recipe import read_recipe


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """The recipe "tiny" with seed 3, and one of that name with seed 4 in a folder."""
    folder = tmp_path / "recipes"
    (folder / "sub").mkdir(parents=True)
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "sub" / "tiny.toml").write_text(RECIPE.replace("seed = 3", "seed = 4"))
    return folder


@pytest.mark.parametrize("file", ["tiny.toml", "sub/tiny.toml"])
def test_recipe_is_found_by_its_settings(file: str, recipes: Path) -> None:
    assert find_recipe(read_recipe(recipes / file), recipes) == str(recipes / file)


def test_recipe_that_changed_since_is_found_by_its_name(recipes: Path) -> None:
    recipe = read_recipe(recipes / "tiny.toml").model_copy(update={"seed": 5})
    assert find_recipe(recipe, recipes) == str(recipes / "tiny.toml")
    (recipes / "tiny.toml").write_text("no recipe")
    (recipes / "sub" / "tiny.toml").unlink()
    assert find_recipe(recipe, recipes) == str(recipes / "tiny.toml")


def test_recipe_of_a_subfolder_is_named_with_it() -> None:
    trainer = Path(__file__).parents[2]
    recipe = read_recipe(trainer / "recipes" / "distilled" / "lite0.toml")
    assert find_recipe(recipe) == "recipes/distilled/lite0.toml"


def test_recipe_that_is_not_found_is_in_the_top_folder(recipes: Path) -> None:
    recipe = read_recipe(recipes / "tiny.toml").model_copy(update={"name": "absent"})
    assert find_recipe(recipe, recipes) == "recipes/absent.toml"


def test_command_on_the_card_makes_the_bundle_again(
    place: Path,
    recipes: Path,
    dataset: Dataset,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whether the second view of a tiny model adds anything depends on the processor.
    monkeypatch.setattr(
        "emotion_trainer.bundle.ensembling._least_loss",
        lambda predictions, _labels: np.ones(len(predictions)),
    )
    monkeypatch.chdir(recipes.parent)
    student = f'[distillation]\nteachers = ["{place / "run"}"]\n'
    (recipes / "sub" / "tiny.toml").write_text(RECIPE + student)
    write_unlabelled(dataset.validation.images, Path("faces"))
    where = ["--data", str(place / "sheets"), "--unlabelled", "faces", "--out", "models"]
    options = ["--mirrored", "--max-mmac", "1.5", "--clips", str(clip)]
    assert main(["ladder", "recipes/sub/tiny.toml", *where, *options]) == 0
    before = read_bundle(Path("models"))
    (left_out,) = read_bundling(Path("models")).left_out

    words = command_in(Path("models", "README.md").read_text(encoding="utf-8"))
    assert words[:3] == ["emotion-trainer", "ladder", "recipes/sub/tiny.toml"]
    values = {"PATH": where[1], "FACES": "faces", "../models": "again", clip.name: str(clip)}
    assert main([values.get(word, word) for word in words[1:]]) == 0
    after = read_bundle(Path("again"))
    assert (after.members, after.ensemble) == (before.members, before.ensemble)
    assert read_bundling(Path("again")).left_out == (left_out,)
    assert command_in(Path("again", "README.md").read_text(encoding="utf-8")) == words


def command_in(card: str) -> list[str]:
    _, _, text = card.partition("\n    cd trainer\n")
    return shlex.split(text.partition("\n\n")[0].replace("\\\n", " "))
