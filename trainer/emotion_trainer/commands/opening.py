"""The data set and the warnings of commands that work with trained models."""

import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emotion_trainer.data import Dataset, Numbering
    from emotion_trainer.training.provenance import RunRecord


def numbering_of(options: Namespace) -> "Numbering | None":
    """The meaning of numbers as names of folders; None without `--numbering`."""
    from emotion_trainer.data import Numbering

    return None if options.numbering is None else Numbering(options.numbering)


def open_dataset_of(options: Namespace, models: Iterable[Path] = ()) -> "Dataset":
    """Open a command's data set, and report on standard error what is left out of it.

    Args:
        options: of a command with `arguments.add_dataset`.
        models: what is measured on the validation split, or teaches; it must not be trained on it.

    Raises:
        DataError: the data set cannot be read, or a model was trained on the validation split.
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


def warn_of_absent_emotions(dataset: "Dataset") -> None:
    """Warn on standard error about emotions of which a part of a data set has no face."""
    from emotion_trainer.data.dataset import TRAINING

    for split, name, effect in (
        (dataset.training, TRAINING, "the network does not learn them"),
        (dataset.validation, dataset.validation_name, "their recall is 0 in all figures"),
    ):
        if split.absent:
            print(
                f"emotion-trainer: warning: --limit: no face of {', '.join(split.absent)} among "
                f"{len(split)} of {name}, so {effect}; allow more",
                file=sys.stderr,
            )


def warn_of_trials(records: "Iterable[RunRecord]") -> None:
    """Warn on standard error about each model whose training was cut short."""
    for warning in [record.warning for record in records]:
        if warning is not None:
            print(f"emotion-trainer: warning: {warning}", file=sys.stderr)
