from pathlib import Path

import pytest

from emotion_trainer.errors import RecipeError
from emotion_trainer.recipe import read_recipe

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


def test_a_recipe_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD)
    assert read_recipe(path).name == "tiny"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD + "epoch = 2", "optimisation.epoch: Extra inputs"),
        (GOOD.replace("epochs = 1", "epochs = 0"), "optimisation.epochs: .* greater than 0"),
        (GOOD.replace("seed = 1", ""), "seed: Field required"),
        (GOOD.replace('"resnet"', '"resnext"'), "model.family"),
        ("seed =", "is no TOML"),
    ],
)
def test_names_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=complaint):
        read_recipe(path)


def test_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        read_recipe(tmp_path / "absent.toml")
