"""From models to a bundle: member files, manifest and model card."""

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
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
from emotion_trainer.bundle.candidates import BundledModel, Candidate
from emotion_trainer.bundle.ensembling import (
    Fit,
    Selection,
    anytime_fits,
    anytime_order,
    select_and_fit,
)
from emotion_trainer.bundle.figures import Bundled, fit_of, measure_bundle
from emotion_trainer.bundle.origin import left_out_of, record_bundling, remeasure_bundling
from emotion_trainer.bundle.records import read_bundling, write_records
from emotion_trainer.bundle.views import Views, models_in, predict_views, stack, views_of
from emotion_trainer.data import Dataset
from emotion_trainer.errors import DataError
from emotion_trainer.evaluation.metrics import measure
from emotion_trainer.models.predictions import Scores
from emotion_trainer.recipe import require_distinct_names

DECIMALS: Final = 4
MAX_DEVIATION: Final = 0.005
"""Of an accuracy from the manifest's: another processor rounds differently."""

Describe = Callable[[Bundled, Path], dict[str, str]]


def make_bundle(
    candidates: Sequence[Candidate],
    dataset: Dataset,
    folder: Path,
    describe: Describe,
    *,
    recipes: Sequence[Path] = (),
    mirrored: bool = False,
    max_mmac: float = math.inf,
) -> Bundled:
    """Write the models' int8 files, their manifest and their card into `folder`.

    Weights, temperature and the members' order are fitted, and all figures are measured, on the
    validation split with the int8 files. What `folder` held of an earlier bundle is replaced.

    Args:
        candidates: the models.
        dataset: whose validation split is fitted and measured on.
        folder: where the bundle goes.
        describe: returns the content of the card and its plots, by file name; it takes the folder
            in which the bundle is until then.
        recipes: files of the recipes that the card names; empty: they are searched for.
        mirrored: whether each model may be a second member, that sees faces mirrored.
        max_mmac: million multiply-accumulates of all members together, for one face.

    Raises:
        TrainingError: a run's record or weights cannot be read.
        RecipeError: two models are of recipes of the same name.
        ExportError: a run was not exported, or no model is of any use or cheap enough.
    """
    require_distinct_names([candidate.name for candidate in candidates])
    views = predict_views(candidates, dataset, mirrored=mirrored)
    selection = _select(views, dataset, max_mmac)
    bundle = _make_manifest(views, selection.fit, dataset)
    left_out = left_out_of(views, selection)
    bundling = record_bundling(views, dataset, left_out, max_mmac, recipes)
    used = views_of(bundle, views)
    bundled = measure_bundle(bundle, bundling, used, dataset)
    files = {model.file for model in models_in(used).values()}
    _write(bundled, files, folder, describe)
    return bundled


def describe_bundle(folder: Path, dataset: Dataset, describe: Describe) -> Bundled:
    """Write the card and the plots of an existing bundle again; its manifest stays as it is.

    Raises:
        BundleError: the bundle is missing or damaged.
        DataError: its figures on these data are not those of the manifest.
        ExportError: its `training.json` is damaged.
    """
    bundle = read_bundle(folder)
    recorded = read_bundling(folder)
    mirrored = recorded.mirrored if recorded else any(m.mirrored for m in bundle.members)
    models = {member.file: BundledModel(folder, member) for member in bundle.members}
    views = predict_views(models.values(), dataset, mirrored=mirrored)
    used = views_of(bundle, views)
    _require_same_figures(bundle, fit_of(bundle).probabilities(stack(used)), dataset, folder)
    bundled = measure_bundle(bundle, remeasure_bundling(recorded, views, dataset), used, dataset)
    for name, content in describe(bundled, folder).items():
        (folder / name).write_text(content, encoding="utf-8")
    return bundled


def _require_same_figures(
    bundle: Bundle, probabilities: Scores, dataset: Dataset, folder: Path
) -> None:
    """Refuse data on which the ensemble has another accuracy than in its manifest.

    Raises:
        DataError: it has.
    """
    measured = measure(probabilities, dataset.validation.labels, dataset.validation_name)
    expected = bundle.ensemble.metrics
    if abs(measured.accuracy - expected.accuracy) > MAX_DEVIATION:
        raise DataError(
            f"{folder}: accuracy {measured.accuracy} on {measured.split}, but the manifest has "
            f"{expected.accuracy} on {expected.split}; use the data that it was bundled with"
        )


def _select(views: Views, dataset: Dataset, max_mmac: float) -> Selection:
    """Select and fit the members; the fit is rounded as in the manifest, which is measured."""
    predictions, labels = stack(views), dataset.validation.labels
    selection = select_and_fit(predictions, labels, [view.mmac for view in views], max_mmac)
    fit = selection.fit
    rounded = Fit(
        fit.weights.round(DECIMALS),
        round(fit.temperature, DECIMALS),
        fit.adjustment.round(DECIMALS),
    )
    return replace(selection, fit=rounded)


def _make_manifest(views: Views, fit: Fit, dataset: Dataset) -> Bundle:
    predictions, labels = stack(views), dataset.validation.labels
    order = anytime_order(predictions, labels, fit, [view.mmac for view in views])
    members = tuple(views[i].as_member(float(fit.weights[i])) for i in order)
    ordered = replace(fit, weights=fit.weights[order])
    fits = anytime_fits(predictions[order], labels, ordered)
    metrics = measure(fit.probabilities(predictions), labels, dataset.validation_name)
    return Bundle(
        schema_version=1,
        bundle_id=_identify(members),
        created=datetime.now(UTC).replace(microsecond=0),
        labels=EMOTIONS,
        members=members,
        ensemble=_make_ensemble(fits, metrics, labels),
    )


def _make_ensemble(fits: Sequence[Fit], metrics: Metrics, labels: NDArray[np.int64]) -> Ensemble:
    """The ensemble of the members, from the fits of the first ones, by their number."""
    adjusted = zip(EMOTIONS, fits[-1].adjustment, strict=True)
    shares = (np.bincount(labels, minlength=len(EMOTIONS)) / len(labels)).round(DECIMALS)
    return Ensemble(
        adjustment={name: float(by) for name, by in adjusted if by},
        temperatures=tuple(round(fit.temperature, DECIMALS) for fit in fits),
        shares=dict(zip(EMOTIONS, shares.tolist(), strict=True)),
        metrics=metrics,
    )


def _write(bundled: Bundled, files: set[Path], folder: Path, describe: Describe) -> None:
    """Replace the bundle in the folder, the manifest last.

    A kill leaves the old or the new bundle. A kill during the renames leaves files that differ
    from their manifest: the daemon refuses them, and the same command replaces them.
    """
    staging = folder / ".unfinished"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        for file in files:
            shutil.copyfile(file, staging / file.name)
        write_bundle(bundled.bundle, staging)
        write_records(bundled.bundling, bundled.records, staging)
        for name, content in describe(bundled, staging).items():
            (staging / name).write_text(content, encoding="utf-8")
        obsolete = _listed_files(folder) - {file.name for file in files}
        for path in sorted(staging.iterdir(), key=lambda path: path.name == MANIFEST_NAME):
            path.replace(folder / path.name)
        for name in obsolete:
            (folder / name).unlink()
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _listed_files(folder: Path) -> set[str]:
    try:
        return {member.file for member in read_bundle(folder).members}
    except BundleError:
        return set()


def _identify(members: tuple[Member, ...]) -> str:
    """The bundle's id: the recipes, and a digest of the files."""
    names = "-".join(dict.fromkeys(member.provenance.recipe for member in members))
    keys = ("".join((member.sha256, "~" * member.mirrored)) for member in members)
    digest = hashlib.sha256("".join(keys).encode())
    return f"{names}-{digest.hexdigest()[:8]}"
