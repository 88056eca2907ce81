"""From exported runs to a bundle: the member files, and the manifest that the daemon checks."""

import hashlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Final

import keras
import numpy as np

from edge_daemon.checksum import sha256_of
from edge_daemon.emotions import EMOTIONS
from edge_daemon.errors import BundleError
from edge_daemon.inference.bundle import (
    MANIFEST_NAME,
    Bundle,
    Ensemble,
    Member,
    Metrics,
    Provenance,
    read_bundle,
    write_bundle,
)
from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.data import Dataset
from emotion_trainer.ensembling import Fit, anytime_order, balance, cross_fit, fit_ensemble
from emotion_trainer.errors import ExportError
from emotion_trainer.evaluation import measure
from emotion_trainer.families import cost
from emotion_trainer.predictions import tflite_logits
from emotion_trainer.provenance import RunRecord
from emotion_trainer.runs import Run

DECIMALS: Final = 4


@dataclass(frozen=True)
class Bundled:
    """What came of bundling.

    Attributes:
        bundle: the manifest.
        left_out: recipes whose runs would have had next to no weight.
        unbalanced: the ensemble's figures without the adjustment.
        cross_fitted: the ensemble's figures when all is fitted on one half of the validation split
            and measured on the other; the manifest's are fitted on all.
        size: bytes of the member files.
    """

    bundle: Bundle
    left_out: tuple[str, ...]
    unbalanced: Metrics
    cross_fitted: Metrics
    size: int

    def __str__(self) -> str:
        ensemble, members = self.bundle.ensemble, self.bundle.members
        lines = [f"{self.bundle.bundle_id}, in the order in which members run:"]
        lines += [
            f"  {m.provenance.recipe}: weight {m.weight:.4f}, {_figures(m.metrics)}, "
            f"{m.mmac:.1f} MMAC"
            for m in members
        ]
        lines += [f"  {name}: left out, it adds nothing to the others" for name in self.left_out]
        lines += [
            f"together: {_figures(ensemble.metrics)} at temperature {ensemble.temperature}, "
            f"{sum(m.mmac for m in members):.1f} MMAC, {self.size / 1e6:.2f} MB",
            *self._balance(),
            f"fitted on one half and measured on the other: {_figures(self.cross_fitted)}",
        ]
        return "\n".join(lines)

    def _balance(self) -> list[str]:
        ensemble = self.bundle.ensemble
        lines = [f"the emotion found least: {_least_recall(ensemble.metrics)}"]
        if ensemble.adjustment:
            raised = ", ".join(f"{name} +{by:.2f}" for name, by in ensemble.adjustment.items())
            lines += [
                f"for which the log-probabilities are adjusted: {raised}",
                f"without: {_least_recall(self.unbalanced)}, {_figures(self.unbalanced)}",
            ]
        return lines


def make_bundle(runs: list[Run], dataset: Dataset, folder: Path) -> Bundled:
    """Write the runs' int8 files and their manifest into `folder`.

    Weights, temperature and the members' order are fitted, and all figures are measured, on the
    validation split with the int8 files. What `folder` held of an earlier bundle is replaced.

    Raises:
        TrainingError: a run's record or weights cannot be read.
        ExportError: a run was not exported or is only a teacher, two are of the same name, or
            none is of any use.
    """
    recipes = [run.record().recipe for run in runs]
    names = [recipe.name for recipe in recipes]
    teachers = [recipe.name for recipe in recipes if not recipe.bundled]
    if teachers:
        raise ExportError(
            f"{', '.join(teachers)}: not to be bundled, says the recipe; leave it out"
        )
    if len(set(names)) < len(names):
        raise ExportError(f"two runs have the same name: {', '.join(sorted(names))}")
    split = dataset.validation
    figures = partial(measure, labels=split.labels, split=dataset.validation_name)
    files = [run.require_exported() for run in runs]
    models = [run.best_model() for run in runs]
    answers = np.stack([log_softmax(tflite_logits(file, split.images)) for file in files])
    likeliest = fit_ensemble(answers, split.labels)
    fit = _rounded(balance(likeliest, answers, split.labels))
    order = anytime_order(answers, split.labels, fit, [cost.mmac(m) for m in models])
    members = tuple(
        _make_member(runs[i], models[i], fit.weights[i], figures(np.exp(answers[i]))) for i in order
    )
    bundle = Bundle(
        schema_version=1,
        bundle_id=_identify(members),
        created=datetime.now(UTC).replace(microsecond=0),
        labels=EMOTIONS,
        members=members,
        ensemble=Ensemble(
            adjustment={
                name: float(by) for name, by in zip(EMOTIONS, fit.adjustment, strict=True) if by
            },
            temperature=fit.temperature,
            metrics=figures(fit.probabilities(answers)),
        ),
    )
    _write(bundle, [files[i] for i in order], folder)
    return Bundled(
        bundle=bundle,
        left_out=tuple(name for i, name in enumerate(names) if i not in order),
        unbalanced=figures(likeliest.probabilities(answers)),
        cross_fitted=cross_fit(answers, split.labels, dataset.validation_name),
        size=sum(files[i].stat().st_size for i in order),
    )


def _rounded(fit: Fit) -> Fit:
    """As the manifest writes it, so that figures are those of what is written."""
    return Fit(
        fit.weights.round(DECIMALS),
        round(fit.temperature, DECIMALS),
        fit.adjustment.round(DECIMALS),
    )


def _make_member(run: Run, model: keras.Model, weight: float, metrics: Metrics) -> Member:
    record = run.record()
    exported = run.require_exported()
    return Member(
        file=exported.name,
        sha256=sha256_of(exported),
        family=record.recipe.model.family,
        quantisation="int8",
        mmac=round(cost.mmac(model), 2),
        parameters=cost.parameters(model),
        weight=float(weight),
        metrics=metrics,
        provenance=_provenance(record),
    )


def _write(bundle: Bundle, files: list[Path], folder: Path) -> None:
    """Put the bundle in place of the one before, the manifest last.

    A kill leaves the old bundle or the new one; in the moment of the last few renames, files
    that disagree with their manifest, which the daemon refuses and the same command mends.
    """
    staging = folder / ".unfinished"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, staging / file.name)
    write_bundle(bundle, staging)
    obsolete = _listed_files(folder) - {file.name for file in files}
    for name in [*(file.name for file in files), MANIFEST_NAME]:
        (staging / name).replace(folder / name)
    for name in obsolete:
        (folder / name).unlink()
    staging.rmdir()


def _listed_files(folder: Path) -> set[str]:
    try:
        return {member.file for member in read_bundle(folder).members}
    except BundleError:
        return set()


def _figures(metrics: Metrics) -> str:
    return (
        f"accuracy {metrics.accuracy:.4f}, "
        f"expected calibration error {metrics.calibration_error:.4f}"
    )


def _least_recall(metrics: Metrics) -> str:
    name, recall = min(metrics.recall.items(), key=itemgetter(1))
    return f"{name}, recall {recall:.4f}"


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
