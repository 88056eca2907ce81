"""From exported runs to a bundle: the member files, and the manifest that the daemon checks."""

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge_daemon.checksum import sha256_of
from edge_daemon.emotions import EMOTIONS
from edge_daemon.inference.bundle import (
    Bundle,
    Ensemble,
    Member,
    Provenance,
    write_bundle,
)
from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.calibration import fit_temperature
from emotion_trainer.data import Dataset
from emotion_trainer.evaluation import measure
from emotion_trainer.families import cost
from emotion_trainer.predictions import Faces, Scores, tflite_logits
from emotion_trainer.provenance import RunRecord
from emotion_trainer.runs import Run


def make_bundle(runs: list[Run], dataset: Dataset, folder: Path) -> Bundle:
    """Write the runs' int8 files and their manifest into `folder`, and return the manifest.

    Members stand in the order given and have equal weights. The temperature is fitted, and all
    figures are measured, on the validation split with the int8 files.

    Raises:
        TrainingError: a run's record or weights cannot be read.
        ExportError: a run was not exported.
    """
    folder.mkdir(parents=True, exist_ok=True)
    members = tuple(_make_member(run, 1.0 / len(runs), dataset, folder) for run in runs)
    split = dataset.validation
    answers = _mean_log_probabilities(members, folder, split.images)
    temperature = round(fit_temperature(answers, split.labels), 4)
    bundle = Bundle(
        schema_version=1,
        bundle_id=_identify(members),
        created=datetime.now(UTC).replace(microsecond=0),
        labels=EMOTIONS,
        members=members,
        ensemble=Ensemble(
            temperature=temperature,
            metrics=measure(_softmax(answers / np.float32(temperature)), split.labels),
        ),
    )
    write_bundle(bundle, folder)
    return bundle


def _mean_log_probabilities(members: tuple[Member, ...], folder: Path, faces: Faces) -> Scores:
    answers = [log_softmax(tflite_logits(folder / member.file, faces)) for member in members]
    mean: Scores = np.average(answers, axis=0, weights=[member.weight for member in members])
    return mean.astype(np.float32)


def _make_member(run: Run, weight: float, dataset: Dataset, folder: Path) -> Member:
    record = run.record()
    model = run.best_model()
    exported = run.require_exported()
    bundled = folder / exported.name
    shutil.copyfile(exported, bundled)
    split = dataset.validation
    return Member(
        file=bundled.name,
        sha256=sha256_of(bundled),
        family=record.recipe.model.family,
        quantisation="int8",
        mmac=round(cost.mmac(model), 2),
        parameters=cost.parameters(model),
        weight=weight,
        metrics=measure(_softmax(tflite_logits(bundled, split.images)), split.labels),
        provenance=_provenance(record),
    )


def _softmax(logits: Scores) -> Scores:
    return np.exp(log_softmax(logits))


def _provenance(record: RunRecord) -> Provenance:
    return Provenance(
        recipe=record.recipe.name,
        seed=record.recipe.seed,
        data_fingerprint=record.data_fingerprint,
        commit=record.commit,
    )


def _identify(members: tuple[Member, ...]) -> str:
    """A name that is the bundle's own: the recipes, and a digest of the files."""
    names = "-".join(member.provenance.recipe for member in members)
    digest = hashlib.sha256("".join(member.sha256 for member in members).encode())
    return f"{names}-{digest.hexdigest()[:8]}"
