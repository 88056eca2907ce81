from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.errors import RecipeError
from emotion_trainer.recipe import (
    AnyRecipe,
    Recipe,
    read_recipe,
    read_recipe_as,
    require_distinct_names,
)

GOOD = """
seed = 1
[model]
family = "resnet"
stem = 8
stages = [[8, 1]]
[optimisation]
epochs = 1
batch = 8
learning_rate = 0.1
"""


def test_read_recipe_has_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD)
    assert read_recipe(path).name == "tiny"


def test_recipe_comes_back_from_its_record(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD.replace("stem = 8", "stem = 8\nbudget_mmac = 2"))
    recipe = read_recipe(path)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD + "epoch = 2", r"optimisation\.epoch: .*'epochs'"),
        (GOOD.replace("stem", "stam"), r"model\.resnet\.stam: .*'stem'"),
        ("sead = 1\n" + GOOD, r": sead: .*'seed'"),
        (GOOD + "[distillation]\nteacher = 1", r"distillation\.teacher: .*'teachers'"),
        ("qqq = 1\n" + GOOD, "qqq: [^;]+$"),
        (GOOD.replace("epochs = 1", "epochs = 0"), r"optimisation\.epochs: "),
        (GOOD.replace("seed = 1", ""), ": seed: "),
        (
            GOOD.replace('"resnet"', '"resnext"'),
            r"model\.family: .*\(got 'resnext'\); .*'resnet'",
        ),
        (GOOD.replace("stem = 8", "stem = 8\nwidth = 1.5\nbudget_mmac = 2"), "width .*budget"),
        ("seed =", r"^[^:]+tiny\.toml: "),
        (GOOD.replace("seed = 1", 'seed = "x"'), ": seed: "),
        (GOOD.replace("seed = 1", "seed = -1"), ": seed: "),
        (GOOD.replace("seed = 1", "seed = 4294967296"), ": seed: "),
        ('name = "../tiny"\n' + GOOD, ": name: "),
        # The record of a run is JSON, which has no infinite numbers.
        (GOOD + "max_norm = inf", r"optimisation\.max_norm: "),
        (GOOD.replace("stem = 8", "stem = 8\nwidth = inf"), r"model\.resnet\.width: "),
        (GOOD + 'method = "adamw"\nmomentum = 0.8', "optimisation: momentum .* method sgd"),
        (GOOD + "warmup_epochs = 1.0", r"optimisation: warmup_epochs .*\(got 1 of 1\)"),
        (GOOD + "head_rate = 2.0", "optimisation: head_rate .* method adamw"),
        (GOOD + "[augmentation]\nmin_downscaled_side = 22", "augmentation: .*downscale_prob"),
        (GOOD + "[augmentation]\ndownscale_probability = 0.3", "augmentation: .*min_downscaled"),
        (GOOD + "[augmentation]\nmax_erased_area = 0.1", "augmentation: .*erasing_probability"),
    ],
)
def test_read_recipe_names_the_invalid_setting(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=problem):
        read_recipe(path)


def test_recipe_problem_of_two_settings_has_no_path(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    text = GOOD.replace('"resnet"\nstem = 8\nstages = [[8, 1]]', '"backbone"')
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"tiny\.toml: a backbone"):
        read_recipe(path)


def test_recipe_names_are_unique() -> None:
    """Each is the name of a run's folder, and of its files in a bundle."""
    names = [
        read_recipe_as(DetectorRecipe if path.parent.name == "detector" else Recipe, path).name
        for path in (Path(__file__).parents[1] / "recipes").rglob("*.toml")
    ]
    assert len(names) > 10
    require_distinct_names(names)


def test_read_recipe_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent\.toml"):
        read_recipe(tmp_path / "absent.toml")


@pytest.mark.parametrize("kind", [Recipe, DetectorRecipe])
def test_recipe_fields_all_have_a_description(kind: type[AnyRecipe]) -> None:
    fields = dict(described(kind))
    assert len(fields) > 20
    assert [name for name, text in fields.items() if not text] == []


def described(model: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    """All settings by path, and their descriptions; a family's name selects its settings."""
    for name, field in model.model_fields.items():
        sections = models_in(field.annotation)
        for section in sections:
            path = f"{section.__module__.rpartition('.')[2]}.{name}"
            yield from ((f"{path}.{inner}", text) for inner, text in described(section))
        if not sections and name != "family":
            yield name, field.description


def models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
