"""The command line: `emotion-trainer train`, and what follows from a training."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_daemon.errors import EdgeDaemonError

# TensorFlow tells its start-up to standard error unless told not to before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 when done, 1 when it failed, 2 for bad usage or a bad recipe."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except EdgeDaemonError as error:
        print(f"emotion-trainer: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("emotion-trainer: stopped; the same command goes on", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emotion-trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a network by a recipe, or go on with it")
    train.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    _add_data(train)
    train.add_argument("--run", type=Path, metavar="DIR", help="default: work/ and recipe's name")
    train.set_defaults(command=_train)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, metavar="PATH", help="fer2013.csv or a sheets folder"
    )


def _train(options: argparse.Namespace) -> None:
    from emotion_trainer.data import open_dataset
    from emotion_trainer.recipe import read_recipe
    from emotion_trainer.training import Trainer

    recipe = read_recipe(options.recipe)
    folder = options.run or Path("work") / recipe.name
    trainer = Trainer(recipe, open_dataset(options.data), folder)
    print(trainer.summary(), flush=True)
    best = trainer.run()
    print(f"best: {best.accuracy:.4f} in epoch {best.number}, kept in {folder}")
