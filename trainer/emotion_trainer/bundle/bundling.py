"""From models to a bundle: the member files, and the manifest that the daemon checks."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.errors import BundleError
from edge_daemon.inference.bundle import (
    MANIFEST_NAME,
    Bundle,
    Ensemble,
    Member,
    Metrics,
    read_bundle,
    write_bundle,
)
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.candidates import Applicant
from emotion_trainer.bundle.ensembling import Fit, anytime_order, balance, cross_fit, fit_ensemble
from emotion_trainer.data import Dataset
from emotion_trainer.evaluation.metrics import measure
from emotion_trainer.export.int8 import Agreement
from emotion_trainer.models.predictions import Scores
from emotion_trainer.recipe import require_distinct_names
from emotion_trainer.training.provenance import RunRecord

CARD_NAME: Final = "README.md"
DECIMALS: Final = 4


@dataclass(frozen=True)
class Bundled:
    """What came of bundling.

    Attributes:
        bundle: the manifest.
        left_out: recipes whose models would have had next to no weight.
        unbalanced: the ensemble's figures without the adjustment.
        cross_fitted: the ensemble's figures when all is fitted on one half of the validation split
            and measured on the other; the manifest's are fitted on all.
        probabilities: the ensemble's, for the validation split, float32 [N, 7].
        records: what the members' trainings were made of, as far as that is still known.
        agreements: of each member, how it answers beside the float model, where there is one.
        sizes: bytes by file; a mirrored member needs none of its own.
    """

    bundle: Bundle
    left_out: tuple[str, ...]
    unbalanced: Metrics
    cross_fitted: Metrics
    probabilities: Scores
    records: tuple[RunRecord, ...]
    agreements: tuple[Agreement | None, ...]
    sizes: dict[str, int]

    def __str__(self) -> str:
        ensemble, members = self.bundle.ensemble, self.bundle.members
        lines = [f"{self.bundle.bundle_id}, in the order in which members run:"]
        lines += [
            f"  {display_name(m)}: weight {m.weight:.4f}, {_figures(m.metrics)}, {m.mmac:.1f} MMAC"
            for m in members
        ]
        lines += [f"  {name}: left out, it adds nothing to the others" for name in self.left_out]
        lines += [
            f"together: {_figures(ensemble.metrics)} at temperature {ensemble.temperature}, "
            f"{sum(m.mmac for m in members):.1f} MMAC, {sum(self.sizes.values()) / 1e6:.2f} MB",
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


@dataclass(frozen=True)
class Candidate:
    """A model that may become a member, as it sees faces: as they are, or mirrored."""

    applicant: Applicant
    mirrored: bool


def display_name(member: Member) -> str:
    """What people call a member."""
    return member.provenance.recipe + (", mirrored" if member.mirrored else "")


def make_bundle(
    applicants: Sequence[Applicant],
    dataset: Dataset,
    folder: Path,
    describe: Callable[[Bundled, Path], str],
    *,
    mirrored: bool = False,
) -> Bundled:
    """Write the models' int8 files, their manifest and their card into `folder`.

    Weights, temperature and the members' order are fitted, and all figures are measured, on the
    validation split with the int8 files. What `folder` held of an earlier bundle is replaced.

    Args:
        applicants: the models.
        dataset: whose validation split is fitted and measured on.
        folder: where the bundle goes.
        describe: gives the card, Markdown; it is told the folder in which the bundle is for now.
        mirrored: whether each model may be a second member, that sees faces mirrored.

    Raises:
        TrainingError: a run's record or weights cannot be read.
        RecipeError: two models are of recipes of the same name.
        ExportError: a run was not exported, or no model is of any use.
    """
    require_distinct_names([applicant.name for applicant in applicants])
    labels = dataset.validation.labels
    figures = partial(measure, labels=labels, split=dataset.validation_name)
    looks = (False, True) if mirrored else (False,)
    candidates = [Candidate(applicant, look) for applicant in applicants for look in looks]
    said = [c.applicant.answers(dataset, mirrored=c.mirrored) for c in candidates]
    answers = np.stack([one.log_probabilities for one in said])
    likeliest = fit_ensemble(answers, labels)
    fit = _rounded(balance(likeliest, answers, labels))
    order = anytime_order(answers, labels, fit, [c.applicant.mmac for c in candidates])
    chosen = [candidates[i] for i in order]
    members = tuple(
        candidates[i].applicant.as_member(
            float(fit.weights[i]), said[i].metrics, mirrored=candidates[i].mirrored
        )
        for i in order
    )
    used = [one for one in applicants if any(c.applicant is one for c in chosen)]
    probabilities = fit.probabilities(answers)
    bundled = Bundled(
        bundle=_make_manifest(members, fit, labels, figures(probabilities)),
        left_out=tuple(sorted({a.name for a in applicants} - {one.name for one in used})),
        unbalanced=figures(likeliest.probabilities(answers)),
        cross_fitted=cross_fit(answers, labels, dataset.validation_name),
        probabilities=probabilities,
        records=tuple(one.record for one in used if one.record is not None),
        agreements=tuple(c.applicant.agreement(dataset, mirrored=c.mirrored) for c in chosen),
        sizes={one.file.name: one.file.stat().st_size for one in used},
    )
    _write(bundled, [one.file for one in used], folder, describe)
    return bundled


def _rounded(fit: Fit) -> Fit:
    """As the manifest writes it, so that figures are those of what is written."""
    return Fit(
        fit.weights.round(DECIMALS),
        round(fit.temperature, DECIMALS),
        fit.adjustment.round(DECIMALS),
    )


def _make_manifest(
    members: tuple[Member, ...], fit: Fit, labels: NDArray[np.int64], metrics: Metrics
) -> Bundle:
    adjusted = zip(EMOTIONS, fit.adjustment, strict=True)
    shares = (np.bincount(labels, minlength=len(EMOTIONS)) / len(labels)).round(DECIMALS)
    return Bundle(
        schema_version=1,
        bundle_id=_identify(members),
        created=datetime.now(UTC).replace(microsecond=0),
        labels=EMOTIONS,
        members=members,
        ensemble=Ensemble(
            adjustment={name: float(by) for name, by in adjusted if by},
            temperature=fit.temperature,
            shares=dict(zip(EMOTIONS, shares.tolist(), strict=True)),
            metrics=metrics,
        ),
    )


def _write(
    bundled: Bundled,
    files: list[Path],
    folder: Path,
    describe: Callable[[Bundled, Path], str],
) -> None:
    """Put the bundle in place of the one before, the manifest last.

    A kill leaves the old bundle or the new one; in the moment of the last few renames, files
    that disagree with their manifest, which the daemon refuses and the same command mends.
    """
    staging = folder / ".unfinished"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        for file in files:
            shutil.copyfile(file, staging / file.name)
        write_bundle(bundled.bundle, staging)
        (staging / CARD_NAME).write_text(describe(bundled, staging), encoding="utf-8")
        obsolete = _listed_files(folder) - {file.name for file in files}
        for name in [*(file.name for file in files), CARD_NAME, MANIFEST_NAME]:
            (staging / name).replace(folder / name)
        for name in obsolete:
            (folder / name).unlink()
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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


def _identify(members: tuple[Member, ...]) -> str:
    """A name that is the bundle's own: the recipes, and a digest of the files."""
    names = "-".join(dict.fromkeys(member.provenance.recipe for member in members))
    looks = ("".join((member.sha256, "~" * member.mirrored)) for member in members)
    digest = hashlib.sha256("".join(looks).encode())
    return f"{names}-{digest.hexdigest()[:8]}"
