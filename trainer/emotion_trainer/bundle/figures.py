"""The figures of a bundle, for the terminal and the model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.inference.bundle import Bundle, Member, Metrics
from edge_daemon.inference.ensemble import log_softmax
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.balancing import MAX_LOSS, MIN_RECALL
from emotion_trainer.bundle.candidates import Candidate
from emotion_trainer.bundle.ensembling import Fit, LogProbabilities, adjust
from emotion_trainer.bundle.records import Bundling, ModelRecord, View, view_name, view_of
from emotion_trainer.bundle.views import Views, models_in, stack
from emotion_trainer.data import Dataset
from emotion_trainer.evaluation.metrics import measure
from emotion_trainer.evaluation.robustness import Robustness, measure_robustness
from emotion_trainer.models.predictions import Scores, tflite_logits

ENSEMBLE: Final = "ensemble"


@dataclass(frozen=True)
class Bundled:
    """A bundle and its figures.

    Attributes:
        bundle: the manifest.
        bundling: its options, and what was left out.
        unbalanced: the ensemble's figures without the adjustment, at a temperature fitted again.
        anytime: the figures of the first member, of the first two, and so on to all.
        probabilities: the ensemble's, for the validation split, float32 [N, 7].
        records: how the members were trained, by file, as far as that is known.
        sizes: bytes by file; a mirrored member needs none of its own.
        robustness: accuracy on degraded faces, of the ensemble and of each member.
        foreign: recipes of the members that were trained on other data than these are measured on.
    """

    bundle: Bundle
    bundling: Bundling
    unbalanced: Metrics
    anytime: tuple[Metrics, ...]
    probabilities: Scores
    records: dict[str, ModelRecord]
    sizes: dict[str, int]
    robustness: Robustness
    foreign: tuple[str, ...] = ()

    @property
    def given_up(self) -> dict[str, float]:
        """The recalls below the limit, which no adjustment raises at an acceptable cost."""
        recalls = self.bundle.ensemble.metrics.recall
        return {name: recall for name, recall in recalls.items() if recall < MIN_RECALL}

    def __str__(self) -> str:
        ensemble, members = self.bundle.ensemble, self.bundle.members
        lines = [f"{self.bundle.bundle_id}, in the order in which members run:"]
        lines += [
            f"  {display_name(m)}: weight {m.weight:.4f}, {_figures(m.metrics)}, {m.mmac:.1f} MMAC"
            for m in members
        ]
        lines += [
            f"  {one.name}: left out, {self.bundling.reason(one)}" for one in self.bundling.left_out
        ]
        lines += [
            f"together: {_figures(ensemble.metrics)} at temperature {ensemble.temperatures[-1]}, "
            f"{sum(m.mmac for m in members):.1f} MMAC, {sum(self.sizes.values()) / 1e6:.2f} MB",
            *self._balance(),
            "selected and fitted on one half and measured on the other: "
            f"{_figures(self.bundling.cross_fitted)}",
        ]
        if self.foreign:
            lines.append(
                f"trained on other data, which may include faces that these figures are measured "
                f"on: {', '.join(self.foreign)}"
            )
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
        if self.given_up:
            recalls = ", ".join(f"{name} {recall:.4f}" for name, recall in self.given_up.items())
            lines.append(
                f"below {MIN_RECALL}, since more would cost over {100 * MAX_LOSS:g} points of "
                f"accuracy or other recall: {recalls}; train longer or on more faces"
            )
        return lines


def display_name(member: Member) -> str:
    """A member's name in texts: its recipe, and whether it is mirrored."""
    return view_name(member.provenance.recipe, mirrored=member.mirrored)


def measure_bundle(bundle: Bundle, bundling: Bundling, views: Views, dataset: Dataset) -> Bundled:
    """Measure all figures of a bundle.

    Args:
        bundle: the manifest.
        bundling: its options, and what was left out.
        views: those of the members, in the manifest's order.
        dataset: what to measure on.
    """
    predictions = stack(views)
    fit = fit_of(bundle)
    models = models_in(views)
    records = _records_of(views, dataset)
    return Bundled(
        bundle=bundle,
        bundling=bundling,
        unbalanced=_unbalanced(fit, predictions, dataset),
        anytime=_anytime(bundle, predictions, dataset),
        probabilities=fit.probabilities(predictions),
        records=records,
        sizes={name: model.file.stat().st_size for name, model in models.items()},
        robustness=measure_robustness(
            partial(_predictions_of_members, bundle, fit, models), dataset.validation
        ),
        foreign=_foreign(bundle, records, dataset),
    )


def _foreign(
    bundle: Bundle, records: Mapping[str, ModelRecord], dataset: Dataset
) -> tuple[str, ...]:
    """Recipes of the members that were trained neither on these data nor, as a trial, on a part."""
    found: list[str] = []
    for member in bundle.members:
        trial = records[member.file].run.trial if member.file in records else None
        limit = trial.limit if trial is not None else None
        data = dataset if limit is None else dataset.limited(limit)
        if member.provenance.data_fingerprint != data.fingerprint:
            found.append(member.provenance.recipe)
    return tuple(dict.fromkeys(found))


def _unbalanced(fit: Fit, predictions: LogProbabilities, dataset: Dataset) -> Metrics:
    labels = dataset.validation.labels
    plain = adjust(fit, np.zeros(len(EMOTIONS)), predictions, labels)
    return measure(plain.probabilities(predictions), labels, dataset.validation_name)


def _anytime(
    bundle: Bundle, predictions: LogProbabilities, dataset: Dataset
) -> tuple[Metrics, ...]:
    split, name = dataset.validation, dataset.validation_name
    return tuple(
        measure(fit_of(bundle, number).probabilities(predictions[:number]), split.labels, name)
        for number in range(1, len(predictions) + 1)
    )


def _records_of(views: Views, dataset: Dataset) -> dict[str, ModelRecord]:
    """How the models of these views were trained, by file, as far as that is known."""
    models = models_in(views)
    names: dict[str, list[View]] = {file: [] for file in models}
    for view in views:
        names[view.file].append(view_of(mirrored=view.mirrored))
    records = {file: model.record(dataset, names[file]) for file, model in models.items()}
    return {file: record for file, record in records.items() if record is not None}


def fit_of(bundle: Bundle, members: int | None = None) -> Fit:
    """The weights, the temperature and the adjustment in a manifest.

    Args:
        bundle: the manifest.
        members: of so many members, in its order; None: of all.
    """
    adjusted = bundle.ensemble.adjustment
    used = bundle.members[:members]
    return Fit(
        np.array([member.weight for member in used]),
        bundle.ensemble.temperatures[len(used) - 1],
        np.array([adjusted.get(name, 0.0) for name in EMOTIONS]),
    )


def _predictions_of_members(
    bundle: Bundle, fit: Fit, models: Mapping[str, Candidate], faces: NDArray[np.uint8]
) -> dict[str, Scores]:
    """Predictions of the ensemble, first, and of each member for faces, uint8 [N, 48, 48]."""
    predictions = np.stack(
        [
            log_softmax(
                tflite_logits(models[m.file].file, faces[:, :, ::-1] if m.mirrored else faces)
            )
            for m in bundle.members
        ]
    )
    names = [display_name(member) for member in bundle.members]
    return {ENSEMBLE: fit.probabilities(predictions), **dict(zip(names, predictions, strict=True))}


def _figures(metrics: Metrics) -> str:
    return (
        f"accuracy {metrics.accuracy:.4f}, "
        f"expected calibration error {metrics.calibration_error:.4f}"
    )


def _least_recall(metrics: Metrics) -> str:
    name, recall = min(metrics.recall.items(), key=itemgetter(1))
    return f"{name}, recall {recall:.4f}"
