"""`detector label`, `train`, `verifier`, `export` and `compare`: the daemon's face detector."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from emotion_trainer.commands.arguments import (
    Commands,
    add_finished_run,
    add_labelled_faces,
    add_output_file,
    add_output_folder,
    add_recipe,
    existing_path,
    output_folder,
    positive_integer,
)
from emotion_trainer.commands.opening import numbering_of
from emotion_trainer.errors import TrainingError

if TYPE_CHECKING:
    from emotion_trainer.detector.data import DetectorData


def add_commands(commands: Commands) -> None:
    """Add `detector` and its commands to the parser."""
    detector = commands.add_parser("detector", help="train, measure and export a face detector")
    subcommands = detector.add_subparsers(required=True, metavar="COMMAND")
    _add_label(subcommands)
    _add_train(subcommands)
    _add_verifier(subcommands)
    _add_export(subcommands)
    _add_compare(subcommands)


def _add_label(commands: Commands) -> None:
    label = commands.add_parser("label", help="label tight crops of faces with YuNet")
    add_labelled_faces(label)
    _add_teacher(label)
    add_output_file(label, "labelled crops, .npz")
    label.set_defaults(command=_label)


def _add_train(commands: Commands) -> None:
    train = commands.add_parser("train", help="train a detector, or resume its training")
    add_recipe(train)
    train.add_argument(
        "--run", type=Path, metavar="DIR", help="folder of the run (default: work/RECIPE)"
    )
    train.add_argument(
        "--weights", type=existing_path, metavar="FILE", help="start from a run's weights.npz"
    )
    _add_training_data(train)
    train.set_defaults(command=_train, needs_keras=True)


def _add_verifier(commands: Commands) -> None:
    verifier = commands.add_parser(
        "verifier", help="train a run's second network, which verifies faces, or resume it"
    )
    add_finished_run(verifier)
    _add_training_data(verifier)
    verifier.set_defaults(command=_verifier, needs_keras=True)


def _add_export(commands: Commands) -> None:
    export = commands.add_parser(
        "export", help="convert a run's best weights to the daemon's detector"
    )
    add_finished_run(export)
    add_output_folder(export, "folder of the model and detector.json")
    _add_training_data(export)
    export.set_defaults(command=_export, needs_keras=True)


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser("compare", help="compare a detector with YuNet and Haar")
    compare.add_argument(
        "folder",
        type=existing_path,
        metavar="FOLDER",
        help="labelled photos, or photos and clips to label with YuNet",
    )
    _add_teacher(compare)
    compare.add_argument(
        "--detector-model",
        type=existing_path,
        metavar="FILE",
        help="detector.json of the trainer (default: the daemon's)",
    )
    _add_sample_options(compare)
    _add_misses_options(compare)
    compare.set_defaults(command=_compare)


def _add_training_data(command: ArgumentParser) -> None:
    command.add_argument(
        "--photos",
        type=existing_path,
        required=True,
        action="append",
        metavar="DIR",
        help="photos with labels.json, or WIDER FACE; may be given more than once",
    )
    command.add_argument(
        "--crops",
        type=existing_path,
        required=True,
        metavar="FILE",
        help="labelled crops, .npz, as written by label",
    )


def _add_teacher(command: ArgumentParser) -> None:
    command.add_argument(
        "--teacher", type=existing_path, required=True, metavar="FILE", help="YuNet as ONNX"
    )


def _add_sample_options(command: ArgumentParser) -> None:
    """Add which images are compared, and in which size."""
    command.add_argument(
        "--max-side",
        type=positive_integer,
        default=640,
        metavar="PX",
        help="longer side of the image for detection, in pixels (default: 640)",
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="include labelled photos of the training and calibration parts",
    )
    command.add_argument(
        "--interval",
        type=positive_integer,
        default=1,
        metavar="N",
        help="use every Nth frame of a clip (default: 1)",
    )


def _add_misses_options(command: ArgumentParser) -> None:
    command.add_argument(
        "--misses",
        type=output_folder,
        metavar="DIR",
        help="write the images with the worst misses to this folder",
    )
    command.add_argument(
        "--count",
        type=positive_integer,
        default=20,
        metavar="N",
        help="number of images for --misses (default: 20)",
    )


def _label(options: Namespace) -> None:
    from edge_daemon.detection.yunet import YuNetDetector
    from emotion_trainer.data import Splitting, open_dataset
    from emotion_trainer.detector.crops import MIN_SCORE, label_crops, save_crops

    numbering = numbering_of(options)
    data = open_dataset(options.data, Splitting.OFFICIAL, numbering=numbering)
    images = data.training.images
    options.out.parent.mkdir(parents=True, exist_ok=True)
    crops = label_crops(images, YuNetDetector(options.teacher, MIN_SCORE))
    save_crops(crops, options.out)
    print(f"{options.out}: {len(crops)} of {len(images)} crops labelled")


def _train(options: Namespace) -> None:
    from emotion_trainer.detector.recipe import DetectorRecipe
    from emotion_trainer.detector.runs import DetectorRun
    from emotion_trainer.recipe import read_recipe_as

    with _torch_required("train"):
        from emotion_trainer.detector.training import DetectorTrainer

    recipe = read_recipe_as(DetectorRecipe, options.recipe)
    run = DetectorRun(options.run or Path("work") / recipe.name)
    trainer = DetectorTrainer(recipe, _load_data(options), run, options.weights)
    print(trainer.summary(), flush=True)
    best = trainer.run()
    print(f"best average precision {best.score:.4f} in epoch {best.number}: {run.best}")


def _verifier(options: Namespace) -> None:
    from emotion_trainer.detector.runs import DetectorRun

    with _torch_required("verifier"):
        from emotion_trainer.detector.verifier_training import VerifierTrainer

    run = DetectorRun(options.run)
    trainer = VerifierTrainer(run, _load_data(options))
    print(trainer.summary(), flush=True)
    best = trainer.run()
    print(f"best average precision {best.score:.4f} in epoch {best.number}: {run.verifier.best}")


def _load_data(options: Namespace) -> "DetectorData":
    """Read the photos and crops, and report on standard error what is left out of them."""
    from emotion_trainer.detector.data import load_data

    data = load_data(options.photos, options.crops)
    if data.copies:
        print(
            f"--photos: {data.copies} photos skipped, near-copies of photos for calibration or "
            "test; give frames of one video the same source in labels.json",
            file=sys.stderr,
        )
    return data


@contextmanager
def _torch_required(command: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise TrainingError(
            f"detector {command}: PyTorch cannot be imported ({error}); "
            "install a processor's build, see trainer/README.md"
        ) from error


def _export(options: Namespace) -> None:
    from emotion_trainer.detector.export import export_detector
    from emotion_trainer.detector.runs import DetectorRun

    data = _load_data(options)
    metrics = export_detector(DetectorRun(options.run), data, options.out)
    print(", ".join(f"{name} {value}" for name, value in metrics.model_dump().items()))


def _compare(options: Namespace) -> None:
    from edge_daemon._lib.files import bundled_detector
    from edge_daemon.config.settings import DetectionSettings
    from edge_daemon.detection import Detector
    from edge_daemon.detection.base import TRACKED_MARGIN
    from edge_daemon.detection.bundled import BundledDetector
    from edge_daemon.detection.haar import HaarDetector
    from edge_daemon.detection.yunet import YuNetDetector
    from emotion_trainer.detector.compare import compare, table
    from emotion_trainer.detector.misses import write_misses
    from emotion_trainer.detector.samples import DOUBTFUL_SCORE, load_samples

    min_score = DetectionSettings().min_score
    yunet = YuNetDetector(options.teacher, min_score)
    bundled = BundledDetector(options.detector_model or bundled_detector(), min_score)
    samples = load_samples(
        options.folder,
        # It reports detections from a margin below its score.
        YuNetDetector(options.teacher, DOUBTFUL_SCORE + TRACKED_MARGIN),
        min_score,
        test_only=not options.all,
        interval=options.interval,
    )
    detectors: dict[str, Detector] = {"bundled": bundled, "YuNet": yunet, "Haar": HaarDetector(24)}
    results = compare(samples, detectors, options.max_side)
    print(f"{len(samples)} images, searched at {options.max_side} pixels\n\n{table(results)}")
    if options.misses:
        paths = write_misses(samples, results["bundled"], options.misses, options.count)
        print(f"\n{len(paths)} images in {options.misses}")
