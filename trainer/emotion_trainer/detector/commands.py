"""`emotion-trainer detector …`: the commands that make the daemon's face detector."""

import argparse
from pathlib import Path


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands below `detector` to the command line."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    label = commands.add_parser("label", help="have YuNet label tight crops of faces, as FER2013's")
    label.add_argument("--data", type=Path, required=True, metavar="PATH", help="as for train")
    label.add_argument(
        "--teacher", type=Path, required=True, metavar="FILE", help="YuNet as ONNX, which labels"
    )
    label.add_argument("--out", type=Path, required=True, metavar="FILE", help="an .npz file")
    label.set_defaults(command=_label)

    train = commands.add_parser("train", help="train a detector, or go on where it was stopped")
    train.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    train.add_argument(
        "--run", type=Path, metavar="DIR", help="keeps the training; work/<recipe's name> if absent"
    )
    train.set_defaults(command=_train)

    evaluate = commands.add_parser("evaluate", help="measure a detector on held-out scenes")
    evaluate.add_argument(
        "model", type=Path, metavar="MODEL", help=".keras or .tflite; or YuNet's .onnx, to compare"
    )
    evaluate.add_argument("--plots", type=Path, metavar="DIR", help="gets plots as SVG")
    evaluate.set_defaults(command=_evaluate)

    export = commands.add_parser("export", help="make a run's best weights the daemon's detector")
    export.add_argument("run", type=Path, metavar="RUN", help="a folder that train filled")
    export.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="gets the model and detector.json"
    )
    export.set_defaults(command=_export)

    for command in (train, evaluate, export):
        command.add_argument(
            "--photos",
            type=Path,
            required=True,
            metavar="DIR",
            help="photos with labels.json, or WIDER FACE",
        )
        command.add_argument(
            "--crops", type=Path, required=True, metavar="FILE", help="what label wrote"
        )


def _label(options: argparse.Namespace) -> None:
    from edge_daemon.detection.yunet import YuNetDetector
    from emotion_trainer.data import Splitting, open_dataset
    from emotion_trainer.detector.crops import LEAST_SCORE, label_crops, save_crops

    images = open_dataset(options.data, Splitting.OFFICIAL).training.images
    crops = label_crops(images, YuNetDetector(options.teacher, LEAST_SCORE))
    save_crops(crops, options.out)
    print(f"{options.out}: {len(crops)} of {len(images)} crops labelled")


def _train(options: argparse.Namespace) -> None:
    from emotion_trainer.detector.data import load_data
    from emotion_trainer.detector.recipe import DetectorRecipe
    from emotion_trainer.detector.runs import DetectorRun
    from emotion_trainer.detector.training import DetectorTrainer
    from emotion_trainer.recipe import read_recipe_as

    recipe = read_recipe_as(DetectorRecipe, options.recipe)
    run = DetectorRun(options.run or Path("work") / recipe.name)
    trainer = DetectorTrainer(recipe, load_data(options.photos, options.crops), run)
    print(trainer.summary(), flush=True)
    best = trainer.run()
    print(f"best average precision {best.accuracy:.4f} in epoch {best.number}: {run.best}")


def _evaluate(options: argparse.Namespace) -> None:
    from emotion_trainer.detector.data import load_data
    from emotion_trainer.detector.plots import write_plots
    from emotion_trainer.detector.predictions import finder_of
    from emotion_trainer.detector.recipe import SceneSettings
    from emotion_trainer.detector.report import measure

    find = finder_of(options.model)
    report = measure(find, load_data(options.photos, options.crops), SceneSettings())
    print(report)
    if options.plots:
        write_plots(report, options.plots)


def _export(options: argparse.Namespace) -> None:
    from emotion_trainer.detector.data import load_data
    from emotion_trainer.detector.export import export_detector
    from emotion_trainer.detector.runs import DetectorRun

    data = load_data(options.photos, options.crops)
    print(export_detector(DetectorRun(options.run), data, options.out))
