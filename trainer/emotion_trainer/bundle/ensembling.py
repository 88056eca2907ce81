"""The weights of an ensemble's members, and the order in which the daemon runs them.

The daemon's rule: the members' log-probabilities, averaged by weight, adjusted for emotions of
low recall, divided by a temperature.
Members' predictions are `LogProbabilities` here: their log-probabilities, float32 [M, N, 7].
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax as exact_log_softmax
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from edge_daemon.inference.bundle import Metrics
from edge_daemon.inference.ensemble import pool
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.balancing import Labels, minimum_adjustment
from emotion_trainer.errors import ExportError
from emotion_trainer.evaluation.metrics import measure
from emotion_trainer.models.predictions import Scores

LogProbabilities = NDArray[np.float32]
Numbers = NDArray[np.int64]

NEGLIGIBLE: Final = 0.01
MIN_TEMPERATURE: Final = 0.05
"""Where all predictions are right, the likelihood has no maximum: it rises as this falls."""
MAX_TEMPERATURE: Final = 20.0
HALVINGS: Final = 20
"""The accuracy of one halving has a standard deviation of 0.003."""


@dataclass(frozen=True)
class Fit:
    """The parameters with which the daemon combines its members' predictions.

    Attributes:
        weights: float64 [M], not negative.
        temperature: divides the adjusted mean log-probabilities.
        adjustment: what is added to each emotion's, float64 [7].
    """

    weights: NDArray[np.float64]
    temperature: float
    adjustment: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(EMOTIONS)))

    def probabilities(self, predictions: LogProbabilities) -> Scores:
        """The ensemble's probabilities, float32 [N, 7], from its members' [M, N, 7]."""
        return np.exp(pool(predictions, self.weights, self.adjustment, self.temperature))


@dataclass(frozen=True)
class Selection:
    """A fit, and why members have no weight in it.

    Attributes:
        fit: the fit; members that were left out have no weight.
        too_costly: the members that were left out by the limit of the cost. The others without a
            weight would have had less than 1 %.
    """

    fit: Fit
    too_costly: frozenset[int] = frozenset()


def fit_ensemble(predictions: LogProbabilities, labels: Labels) -> Fit:
    """The weights and temperature with the least negative log-likelihood of the labels.

    Weights over temperature are one vector, in which the loss is convex: a multinomial logistic
    regression with a coefficient a member, which is a logarithmic opinion pool (Heskes 1998) and
    temperature scaling (Guo et al. 2017) in one. So the minimum that is found is the only one.
    Where every face is classified correctly there is none: the temperature is the least allowed.
    A member with less than 1 % of the weight gets none, and the others are fitted again.

    Raises:
        ExportError: no member distinguishes the emotions.
    """
    kept = np.arange(len(predictions))
    while True:
        coefficients = _least_loss(predictions[kept], labels)
        total = float(coefficients.sum())
        if total < 1.0 / MAX_TEMPERATURE:
            raise ExportError("no weight can be fitted: no member distinguishes the emotions")
        enough = coefficients >= NEGLIGIBLE * total
        if enough.all():
            weights = np.zeros(len(predictions))
            weights[kept] = coefficients / total
            return Fit(weights, max(MIN_TEMPERATURE, 1.0 / total))
        kept = kept[enough]


def fit_within(
    predictions: LogProbabilities, labels: Labels, mmac: Sequence[float], max_mmac: float
) -> Selection:
    """The fit of members that stay within a cost for one face; the others get no weight.

    Two ways lead to a selection, and the one with the lower loss counts: from all members, the one
    is removed that raises the loss least for its cost, until the cost is low enough; from none, the
    one is added that lowers the loss most, while one can be paid.

    Raises:
        ExportError: no member is cheap enough, or none distinguishes the emotions.
    """
    costs = np.asarray(mmac)
    cheap = np.flatnonzero(costs <= max_mmac)
    if not len(cheap):
        raise ExportError(f"--max-mmac: no model takes at most {max_mmac:g} MMAC; allow more")
    fit = _fit_of(cheap, predictions, labels)
    useful = selected = np.flatnonzero(fit.weights)
    if costs[useful].sum() > max_mmac:
        reduced = _reduced(useful, predictions, labels, costs, max_mmac)
        grown = _grown(useful, predictions, labels, costs, max_mmac)
        selected = min((reduced, grown), key=lambda members: _loss_of(members, predictions, labels))
        fit = _fit_of(selected, predictions, labels)
    dear = np.flatnonzero(costs > max_mmac)
    return Selection(fit, frozenset(np.setdiff1d(np.append(useful, dear), selected).tolist()))


def _reduced(
    members: Numbers,
    predictions: LogProbabilities,
    labels: Labels,
    costs: NDArray[np.float64],
    max_mmac: float,
) -> Numbers:
    """The members that are left when those of least use for their cost are removed one by one."""
    while costs[members].sum() > max_mmac:
        loss = _loss_of(members, predictions, labels)
        increases = [
            _loss_of(np.delete(members, place), predictions, labels) - loss
            for place in range(len(members))
        ]
        members = np.delete(members, int(np.argmin(increases / costs[members])))
    return members


def _grown(
    candidates: Numbers,
    predictions: LogProbabilities,
    labels: Labels,
    costs: NDArray[np.float64],
    max_mmac: float,
) -> Numbers:
    """The members that are there when the most useful affordable ones are added one by one."""
    members = candidates[:0]
    while True:
        left = max_mmac - costs[members].sum()
        affordable = np.setdiff1d(candidates[costs[candidates] <= left], members)
        if not len(affordable):
            return members
        larger = [np.append(members, one) for one in affordable]
        losses = [_loss_of(several, predictions, labels) for several in larger]
        members = larger[int(np.argmin(losses))]


def _fit_of(members: Numbers, predictions: LogProbabilities, labels: Labels) -> Fit:
    """The fit of these members alone; the others get no weight."""
    fit = fit_ensemble(predictions[members], labels)
    weights = np.zeros(len(predictions))
    weights[members] = fit.weights
    return replace(fit, weights=weights)


def _loss_of(members: Numbers, predictions: LogProbabilities, labels: Labels) -> float:
    """The loss of the fit of these members."""
    return _loss(predictions, labels, _fit_of(members, predictions, labels), members.tolist())


def balance(fit: Fit, predictions: LogProbabilities, labels: Labels) -> Fit:
    """The fit with the smallest adjustment that brings all recalls to the limit.

    The temperature is fitted again. Where no adjustment is needed, the fit stays as it is.
    """
    mixed = pool(predictions, fit.weights, fit.adjustment, temperature=1.0)
    adjustment = minimum_adjustment(mixed, labels)
    if not adjustment.any():
        return fit
    return adjust(fit, fit.adjustment + adjustment, predictions, labels)


def adjust(
    fit: Fit, adjustment: NDArray[np.float64], predictions: LogProbabilities, labels: Labels
) -> Fit:
    """The fit with this adjustment in place of its own, and the temperature fitted again."""
    mixed = pool(predictions, fit.weights, adjustment, temperature=1.0)
    temperature = fit_ensemble(mixed[np.newaxis], labels).temperature
    return replace(fit, temperature=temperature, adjustment=adjustment)


def select_and_fit(
    predictions: LogProbabilities, labels: Labels, mmac: Sequence[float], max_mmac: float
) -> Selection:
    """All that bundling fits: the members, their weights, the adjustment and the temperature.

    Raises:
        ExportError: no member is cheap enough, or none distinguishes the emotions.
    """
    selection = fit_within(predictions, labels, mmac, max_mmac)
    return replace(selection, fit=balance(selection.fit, predictions, labels))


def cross_fit(
    predictions: LogProbabilities,
    labels: Labels,
    mmac: Sequence[float],
    max_mmac: float,
    split: str,
) -> Metrics:
    """Cross-fitted figures: the mean over random halvings of the faces.

    In each, members that are selected and fitted on one half predict the other half.

    Args:
        predictions: of all candidates, also of those that bundling left out.
        labels: int64 [N].
        mmac: of each candidate, million multiply-accumulates for one face.
        max_mmac: limit on those of all members.
        split: the name of the split.
    """
    # The matrices are so small that a second thread only waits for the first.
    with threadpool_limits(1, user_api="blas"):
        return _mean(
            [
                measure(_cross_predict(predictions, labels, mmac, max_mmac, seed), labels, split)
                for seed in range(HALVINGS)
            ]
        )


def _cross_predict(
    predictions: LogProbabilities,
    labels: Labels,
    mmac: Sequence[float],
    max_mmac: float,
    seed: int,
) -> Scores:
    """Probabilities of each half by a fit on the other half, float32 [N, 7]."""
    probabilities = np.empty(predictions.shape[1:], np.float32)
    halves = StratifiedKFold(2, shuffle=True, random_state=seed)
    for fitted, held_out in halves.split(labels, labels):
        selection = select_and_fit(predictions[:, fitted], labels[fitted], mmac, max_mmac)
        probabilities[held_out] = selection.fit.probabilities(predictions[:, held_out])
    return probabilities


def _mean(figures: Sequence[Metrics]) -> Metrics:
    errors = [one.calibration_error for one in figures if one.calibration_error is not None]
    return Metrics(
        split=figures[0].split,
        accuracy=round(fmean(one.accuracy for one in figures), 4),
        recall={
            name: round(fmean(one.recall[name] for one in figures), 4) for name in figures[0].recall
        },
        calibration_error=round(fmean(errors), 4),
    )


def anytime_order(
    predictions: LogProbabilities, labels: Labels, fit: Fit, mmac: Sequence[float]
) -> list[int]:
    """The members that have a weight, in the order in which the daemon runs them.

    First comes the one with the best accuracy per MMAC. Each next one reduces the loss of the
    members before it most per MMAC.
    """

    def gain(members: list[int], new: int) -> float:
        before, after = (_loss(predictions, labels, fit, m) for m in (members, [*members, new]))
        return (before - after) / mmac[new]

    left = [int(member) for member in np.flatnonzero(fit.weights)]
    accuracy = (predictions.argmax(axis=2) == labels).mean(axis=1)
    order = [max(left, key=lambda member: accuracy[member] / mmac[member])]
    left.remove(order[0])
    while left:
        order.append(max(left, key=lambda member: gain(order, member)))
        left.remove(order[-1])
    return order


def anytime_fits(predictions: LogProbabilities, labels: Labels, fit: Fit) -> list[Fit]:
    """The fits of the first member, of the first two, and so on to all.

    Members and adjustment are those of the fit, in the order in which they run; the temperature is
    fitted to each number of members.
    """
    return [
        adjust(
            replace(fit, weights=fit.weights[:number]),
            fit.adjustment,
            predictions[:number],
            labels,
        )
        for number in range(1, len(predictions))
    ] + [fit]


def _loss(predictions: LogProbabilities, labels: Labels, fit: Fit, members: list[int]) -> float:
    running = replace(fit, weights=fit.weights[members])
    probabilities = running.probabilities(predictions[members])
    return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-9).mean())


def _least_loss(predictions: LogProbabilities, labels: Labels) -> NDArray[np.float64]:
    """The non-negative coefficients of the members with the least loss, float64 [M]."""
    rows = np.arange(len(labels))
    exact = predictions.astype(np.float64)
    of_labels = exact[:, rows, labels]

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logs = exact_log_softmax(np.tensordot(coefficients, exact, axes=1), axis=1)
        expected = (exact * np.exp(logs)).sum(axis=2)
        return float(-logs[rows, labels].mean()), (expected - of_labels).mean(axis=1)

    start = np.full(len(predictions), 1.0 / len(predictions))
    bounds = [(0.0, None)] * len(predictions)
    found: Any = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    coefficients: NDArray[np.float64] = found.x
    return coefficients
