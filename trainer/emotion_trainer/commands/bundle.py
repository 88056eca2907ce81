"""`bundle`, `ladder` and `card`: from runs or recipes to the bundle that the daemon runs."""

import math
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from emotion_trainer.commands.arguments import (
    Commands,
    add_dataset,
    add_detector_model,
    add_output_folder,
    add_unlabelled,
    existing_path,
)
from emotion_trainer.commands.opening import open_dataset_of, warn_of_trials

if TYPE_CHECKING:
    from emotion_trainer.bundle.figures import Bundled
    from emotion_trainer.data import Dataset


def add_commands(commands: Commands) -> None:
    """Add the commands to the parser."""
    _add_bundle(commands)
    _add_ladder(commands)
    _add_card(commands)


def _add_bundle(commands: Commands) -> None:
    bundle = commands.add_parser("bundle", help="bundle exported runs for the daemon")
    bundle.add_argument(
        "models",
        type=existing_path,
        nargs="+",
        metavar="RUN",
        help="an exported run, or a bundle whose models are added",
    )
    _add_bundling_options(bundle)
    bundle.set_defaults(command=_bundle, needs_keras=True)


def _add_ladder(commands: Commands) -> None:
    ladder = commands.add_parser("ladder", help="train and export several recipes, bundle them")
    ladder.add_argument(
        "recipes", type=existing_path, nargs="+", metavar="RECIPE", help="TOML files"
    )
    ladder.add_argument(
        "--work",
        type=Path,
        default=Path("work"),
        metavar="DIR",
        help="folder of the runs (default: work)",
    )
    add_unlabelled(ladder)
    _add_bundling_options(ladder)
    ladder.set_defaults(command=_ladder, needs_keras=True)


def _add_card(commands: Commands) -> None:
    card = commands.add_parser("card", help="write the model card of a bundle again")
    card.add_argument("bundle", type=existing_path, metavar="BUNDLE", help="the bundle's folder")
    _add_measuring_options(card)
    card.set_defaults(command=_card, needs_keras=True)


def _add_bundling_options(command: ArgumentParser) -> None:
    """Add what `bundle` and `ladder` share."""
    add_output_folder(command, "the bundle")
    command.add_argument(
        "--mirrored",
        action="store_true",
        help="also use each model as a member for the mirrored face: more accurate, at "
        "twice the cost",
    )
    command.add_argument(
        "--max-mmac",
        type=float,
        default=math.inf,
        metavar="N",
        help="million multiply-accumulates of all members for one face; the least useful "
        "members are left out (default: no limit)",
    )
    _add_measuring_options(command)


def _add_measuring_options(command: ArgumentParser) -> None:
    """Add what the figures of the model card are measured on."""
    add_dataset(command)
    command.add_argument(
        "--clips",
        type=existing_path,
        nargs="+",
        default=[],
        metavar="CLIP",
        help="video files; the model card shows the share of each predicted emotion in them",
    )
    add_detector_model(command)


def _bundle(options: Namespace) -> None:
    _make_bundle(options.models, open_dataset_of(options, options.models), options, recipes=[])


def _ladder(options: Namespace) -> None:
    from emotion_trainer.bundle.ladder import Ladder
    from emotion_trainer.errors import TrainingError
    from emotion_trainer.recipe import read_recipe

    recipes = [read_recipe(path) for path in options.recipes]
    dataset = open_dataset_of(options, {path for recipe in recipes for path in recipe.sources})
    finished, failed = Ladder(recipes, dataset, options.work).run()
    named = zip(options.recipes, recipes, strict=True)
    done = [path for path, recipe in named if recipe.name not in failed]
    _make_bundle([run.folder for run in finished], dataset, options, done)
    if failed:
        raise TrainingError(
            f"recipes: some failed and are not in the bundle (got {', '.join(failed)}); see above"
        )


def _make_bundle(
    models: list[Path], dataset: "Dataset", options: Namespace, recipes: list[Path]
) -> None:
    from emotion_trainer.bundle.bundling import make_bundle
    from emotion_trainer.bundle.candidates import candidates_in

    bundled = make_bundle(
        candidates_in(models),
        dataset,
        options.out,
        partial(_card_files, dataset, options),
        recipes=recipes,
        mirrored=options.mirrored,
        max_mmac=options.max_mmac,
    )
    _report(bundled)


def _card(options: Namespace) -> None:
    from emotion_trainer.bundle.bundling import describe_bundle

    dataset = open_dataset_of(options, [options.bundle])
    _report(describe_bundle(options.bundle, dataset, partial(_card_files, dataset, options)))


def _card_files(
    dataset: "Dataset", options: Namespace, bundled: "Bundled", folder: Path
) -> dict[str, str]:
    from emotion_trainer.bundle.clips import PRIORS, predictions_in
    from emotion_trainer.bundle.model_card import card_files

    clips = [
        predictions_in(clip, folder, options.detector_model, prior)
        for clip in options.clips
        for prior in PRIORS
    ]
    return card_files(bundled, dataset, clips)


def _report(bundled: "Bundled") -> None:
    print(bundled, flush=True)
    warn_of_trials(record.run for record in bundled.records.values())
