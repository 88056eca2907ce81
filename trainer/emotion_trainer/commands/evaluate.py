"""`evaluate`: figures of a model or a bundle on the validation split."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from emotion_trainer.commands.arguments import (
    Commands,
    add_dataset,
    existing_path,
    output_folder,
)
from emotion_trainer.commands.opening import open_dataset_of

if TYPE_CHECKING:
    from emotion_trainer.data import Dataset


def add_commands(commands: Commands) -> None:
    """Add the command to the parser."""
    evaluate = commands.add_parser("evaluate", help="measure a model or a bundle on PublicTest")
    evaluate.add_argument(
        "model",
        type=existing_path,
        metavar="MODEL",
        help="a .keras or .tflite file, or a bundle's folder",
    )
    evaluate.add_argument(
        "--robustness",
        type=output_folder,
        metavar="DIR",
        help="also measure small, blurred, dark and compressed faces; the plots go here",
    )
    add_dataset(evaluate)
    evaluate.set_defaults(command=_evaluate)


def _evaluate(options: Namespace) -> None:
    from emotion_trainer.evaluation.metrics import report
    from emotion_trainer.models.predictions import probabilities_of

    dataset = open_dataset_of(options, [options.model])
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
