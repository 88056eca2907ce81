"""Data leakage: no model is measured on faces that it was trained on.

A stratified split holds out a fifth of the training split: with `--split stratified`, or where
folders have no part to validate on. A model that was trained on the whole training split has seen
that fifth, so figures on it are too good.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.data import Dataset
from emotion_trainer.data.splitting import Splitting
from emotion_trainer.errors import DataError
from emotion_trainer.keras_import import import_keras
from emotion_trainer.models.predictions import is_bundle, is_run

FIXES: Final = {
    Splitting.OFFICIAL: "add a folder of faces to validate on, or train on these data",
    Splitting.STRATIFIED: "leave out --split stratified, or train with it",
}


def require_unseen(models: Iterable[Path], dataset: Dataset, requested: Splitting) -> None:
    """Refuse to measure models on a stratified split unless they were trained on that very split.

    Args:
        models: folders of runs or of bundles, or files in them; other files are accepted.
        dataset: one with a stratified split.
        requested: the value of `--split`, on which the fix in the error depends.

    Raises:
        DataError: a model was trained on another split, or on other data.
        BundleError, TrainingError: a manifest or a run's record is damaged.
    """
    for model in models:
        folder = model if model.is_dir() else model.parent
        if is_bundle(folder):
            is_unseen = _bundle_fingerprints(folder) <= {dataset.fingerprint}
        else:
            is_unseen = not is_run(folder) or _is_of(folder, dataset)
        if not is_unseen:
            raise DataError(
                f"{model}: was trained on another split or other data, and maybe on faces "
                f"of {dataset.validation_name}; {FIXES[requested]}"
            )


def _bundle_fingerprints(folder: Path) -> set[str]:
    """The fingerprints of the data that a bundle's members were trained on."""
    return {member.provenance.data_fingerprint for member in read_bundle(folder).members}


def _is_of(folder: Path, dataset: Dataset) -> bool:
    """Whether a run was trained on these data, or a trial on its part of them."""
    # A run's record needs Keras, which takes seconds; a bundle's manifest does not.
    import_keras()
    from emotion_trainer.training.runs import Run

    record = Run(folder).record()
    limit = record.trial.limit if record.trial is not None else None
    data = dataset if limit is None else dataset.limited(limit)
    return record.data_fingerprint == data.fingerprint
