"""No model may be measured on faces that it was trained on.

A stratified split holds back a fifth of the training split: with `--split stratified`, or where
folders have no part to validate on. A model that was trained on the whole training split has seen
that fifth, so figures on it only measure its memory.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.data import Dataset
from emotion_trainer.data.splitting import Splitting
from emotion_trainer.errors import DataError
from emotion_trainer.models.predictions import is_bundle
from emotion_trainer.training.runs import Run

FIXES: Final = {
    Splitting.OFFICIAL: "add a folder of faces to validate on, or train on these data",
    Splitting.STRATIFIED: "leave out --split stratified, or train with it",
}


def require_unseen(models: Iterable[Path], dataset: Dataset, requested: Splitting) -> None:
    """Refuse to measure models on a stratified split unless they were trained on that very split.

    Args:
        models: folders of runs or of bundles, or files in them; of any other, nothing is known.
        dataset: one with a stratified split.
        requested: the division that the user asked for, which selects the remedy.

    Raises:
        DataError: a model was trained on another split, or on other data.
        BundleError, TrainingError: a manifest or a run's record is damaged.
    """
    for model in models:
        if _trained_on(model) - {dataset.fingerprint, *_parts_for(model, dataset)}:
            raise DataError(
                f"{model}: was trained on another split or other data, and maybe on faces "
                f"of {dataset.validation_name}; {FIXES[requested]}"
            )


def _parts_for(model: Path, dataset: Dataset) -> set[str]:
    """The fingerprint of the part of the data that a trial's run was limited to, if it was."""
    run = Run(model if model.is_dir() else model.parent)
    trial = run.record().trial if run.is_begun else None
    if trial is None or trial.limit is None:
        return set()
    return {dataset.limited(trial.limit).fingerprint}


def _trained_on(model: Path) -> set[str]:
    """The fingerprints of the data that it was trained on, as far as they are known."""
    folder = model if model.is_dir() else model.parent
    if is_bundle(folder):
        return {member.provenance.data_fingerprint for member in read_bundle(folder).members}
    run = Run(folder)
    return {run.record().data_fingerprint} if run.is_begun else set()
