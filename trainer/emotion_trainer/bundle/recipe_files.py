"""Files of recipes, by their paths relative to `trainer/`, as a model card names them."""

from pathlib import Path
from typing import Final

from emotion_trainer.errors import RecipeError
from emotion_trainer.recipe import Recipe, read_recipe

TRAINER: Final = Path(__file__).resolve().parents[2]


def relative_path(path: Path) -> str:
    """The path of a recipe's file, relative to `trainer/` if it is in there."""
    absolute = path.resolve()
    return (absolute.relative_to(TRAINER) if absolute.is_relative_to(TRAINER) else path).as_posix()


def find_recipe(recipe: Recipe, recipes: Path = TRAINER / "recipes") -> str:
    """Find the file of a recipe from a run's record, which does not have the path.

    Of several files of that name, the one with the same settings is preferred, then the one in the
    fewest folders.
    """
    files = sorted(recipes.rglob(f"{recipe.name}.toml"), key=lambda path: len(path.parts))
    same = [path for path in files if _has_settings(path, recipe)]
    return relative_path(next(iter([*same, *files]), default_file(recipe.name)))


def default_file(name: str) -> Path:
    """The file of a recipe that was not found."""
    return TRAINER / "recipes" / f"{name}.toml"


def _has_settings(path: Path, recipe: Recipe) -> bool:
    try:
        return read_recipe(path) == recipe
    except RecipeError:  # another kind of network's
        return False
