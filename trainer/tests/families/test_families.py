from pathlib import Path

import pytest

from emotion_trainer import families
from emotion_trainer.families.cost import mmac, parameters
from emotion_trainer.recipe import Recipe, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def test_counts_by_hand(recipe: Recipe) -> None:
    model = families.build(recipe.model)
    stem = 48 * 48 * 9 * 8
    first = 2 * 24 * 24 * 9 * 8 * 8
    second = 12 * 12 * (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16)
    assert mmac(model) == pytest.approx((stem + first + second + 16 * 7) / 1e6)
    kernels = 9 * 8 + 2 * 9 * 8 * 8 + 9 * 8 * 16 + 9 * 16 * 16 + 8 * 16 + 16 * 7
    assert parameters(model) == kernels + 8 + 2 * 8 + 3 * 16 + 7


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_build_networks_that_a_pi_can_run(path: Path) -> None:
    model = families.build(read_recipe(path).model)
    assert model.output_shape == (None, 7)
    assert mmac(model) < 50


def test_the_small_resnet_is_as_its_recipe_says() -> None:
    model = families.build(read_recipe(RECIPES[0].with_name("resnet_s.toml")).model)
    assert mmac(model) == pytest.approx(20.73, abs=0.01)
    assert parameters(model) == 619_807
