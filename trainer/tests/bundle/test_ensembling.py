from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_daemon.inference.bundle import Ensemble, Metrics
from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.bundle.balancing import MIN_RECALL
from emotion_trainer.bundle.ensembling import (
    HALVINGS,
    MIN_TEMPERATURE,
    Fit,
    anytime_fits,
    anytime_order,
    balance,
    cross_fit,
    fit_ensemble,
    fit_within,
)
from emotion_trainer.errors import ExportError
from emotion_trainer.evaluation.calibration import calibration_error
from emotion_trainer.evaluation.metrics import measure
from emotion_trainer.models.predictions import Scores

FACES = 4000
LogProbabilities = NDArray[np.float32]
Labels = NDArray[np.int64]


def draw_labels(logs: NDArray[np.float32], rng: np.random.Generator) -> Labels:
    """A draw from each row: the largest of log-probabilities plus Gumbel noise."""
    labels: Labels = (logs + rng.gumbel(size=logs.shape)).argmax(axis=1)
    return labels


def members(noises: tuple[float, ...], seed: int = 0) -> tuple[LogProbabilities, Labels]:
    """Members that see the truth through noise of their own."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.0, 2.0, (FACES, 7)).astype(np.float32)
    seen = [truth + rng.normal(0.0, noise, truth.shape) for noise in noises]
    return log_softmax(np.array(seen, np.float32)), draw_labels(log_softmax(truth), rng)


def test_fit_ensemble_finds_the_temperature() -> None:
    rng = np.random.default_rng(0)
    honest = log_softmax(rng.normal(0.0, 2.0, (FACES, 7)).astype(np.float32))
    overconfident = log_softmax(honest * 2.5)
    fit = fit_ensemble(overconfident[np.newaxis], draw_labels(honest, rng))
    assert fit.weights.tolist() == [1.0]
    assert fit.temperature == pytest.approx(2.5, rel=0.1)


def test_temperature_of_perfect_models_stays_in_its_bounds() -> None:
    predictions, _ = members((0.5,))
    labels = predictions[0].argmax(axis=1)
    fit = fit_ensemble(predictions, labels)
    assert fit.temperature == MIN_TEMPERATURE
    assert balance(fit, predictions, labels) is fit
    Ensemble(
        temperatures=(fit.temperature,), metrics=measure(fit.probabilities(predictions), labels, "")
    )


def test_fit_recovers_the_weights_of_drawn_labels() -> None:
    rng = np.random.default_rng(1)
    predictions = log_softmax(rng.normal(0.0, 2.0, (2, FACES, 7)).astype(np.float32))
    mixed = log_softmax(0.75 * predictions[0] + 0.25 * predictions[1])
    fit = fit_ensemble(predictions, draw_labels(mixed, rng))
    assert fit.weights == pytest.approx([0.75, 0.25], abs=0.05)
    assert fit.temperature == pytest.approx(1.0, rel=0.1)


def test_fit_better_member_weighs_more_and_fit_is_calibrated() -> None:
    predictions, labels = members((0.5, 1.0, 2.0))
    fit = fit_ensemble(predictions, labels)
    assert fit.weights.sum() == pytest.approx(1.0)
    assert list(fit.weights) == sorted(fit.weights, reverse=True)
    assert calibration_error(fit.probabilities(predictions), labels) < 0.03


def test_fit_contrary_member_has_weight_0() -> None:
    predictions, labels = members((0.5, 0.5))
    rng = np.random.default_rng(2)
    contrary = log_softmax(
        -predictions[0] + rng.normal(0.0, 1.0, predictions[0].shape).astype(np.float32)
    )
    fit = fit_ensemble(np.stack([predictions[0], contrary, predictions[1]]), labels)
    assert fit.weights[1] == 0.0
    assert fit.weights.sum() == pytest.approx(1.0)
    assert anytime_order(
        np.stack([predictions[0], contrary, predictions[1]]), labels, fit, [1, 1, 1]
    ) in (
        [0, 2],
        [2, 0],
    )


@pytest.mark.parametrize(
    ("max_mmac", "used"), [(150.0, [0, 1, 2, 3]), (130.0, [0, 1, 3]), (45.0, [0, 1])]
)
def test_fit_within_leaves_out_expensive_members(max_mmac: float, used: list[int]) -> None:
    predictions, labels = members((0.5, 0.6, 3.0, 0.4))
    selection = fit_within(predictions, labels, [20.0, 20.0, 20.0, 90.0], max_mmac)
    fit = selection.fit
    assert selection.too_costly == {0, 1, 2, 3} - set(used)
    expected = fit_ensemble(predictions[used], labels)
    assert np.flatnonzero(fit.weights).tolist() == used
    np.testing.assert_allclose(fit.weights[used], expected.weights)
    assert fit.temperature == pytest.approx(expected.temperature)


def test_useless_member_is_not_left_out_for_its_cost() -> None:
    predictions, labels = members((0.5, 0.5, 0.4))
    noise = np.random.default_rng(2).normal(0.0, 9.0, predictions[0].shape).astype(np.float32)
    contrary = log_softmax(noise - predictions[0])
    candidates = np.stack([contrary, *predictions])
    selection = fit_within(candidates, labels, [20.0, 20.0, 20.0, 90.0], 80.0)
    assert np.flatnonzero(selection.fit.weights).tolist() == [1, 2]
    assert selection.too_costly == {3}


def test_fit_within_keeps_the_best_member_though_it_is_dear() -> None:
    """Removal alone drops both dear members: each is of little use for its cost."""
    predictions, labels = members((0.6, 0.6, 0.45, 0.45))
    selection = fit_within(predictions, labels, [20.0, 25.0, 105.0, 105.0], 130.0)
    used = np.flatnonzero(selection.fit.weights).tolist()
    assert len(used) == 2
    assert used[1] in (2, 3)
    assert selection.too_costly == {0, 1, 2, 3} - set(used)


def test_fit_within_too_small_a_limit_is_refused() -> None:
    predictions, labels = members((0.5, 0.6))
    with pytest.raises(ExportError, match="--max-mmac"):
        fit_within(predictions, labels, [20.0, 20.0], 10.0)


def test_fit_ensemble_of_wrong_members_is_refused() -> None:
    predictions, labels = members((0.5,))
    with pytest.raises(ExportError, match="no weight"):
        fit_ensemble(log_softmax(-predictions), labels)


def test_fit_probabilities_are_those_of_the_daemon() -> None:
    predictions, _ = members((0.5, 1.0))
    found = Fit(np.array([3.0, 1.0]), temperature=2.0).probabilities(predictions)
    expected = np.exp(log_softmax((0.75 * predictions[0] + 0.25 * predictions[1]) / 2.0))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def unsure_of_fear(noises: tuple[float, ...]) -> tuple[LogProbabilities, Labels]:
    """Members that find fear less likely than it is."""
    predictions, labels = members(noises)
    predictions[:, :, 2] -= 2.0
    return log_softmax(predictions), labels


def recall_of_fear(fit: Fit, predictions: LogProbabilities, labels: Labels) -> float:
    return float((fit.probabilities(predictions).argmax(axis=1) == 2)[labels == 2].mean())


def test_balanced_fit_finds_every_emotion_and_is_calibrated() -> None:
    predictions, labels = unsure_of_fear((0.5, 1.0))
    likeliest = fit_ensemble(predictions, labels)
    fit = balance(likeliest, predictions, labels)
    assert recall_of_fear(likeliest, predictions, labels) < MIN_RECALL
    assert recall_of_fear(fit, predictions, labels) >= MIN_RECALL
    assert np.flatnonzero(fit.adjustment).tolist() == [2]
    assert calibration_error(fit.probabilities(predictions), labels) < 0.03
    np.testing.assert_array_equal(fit.weights, likeliest.weights)
    assert fit.temperature != likeliest.temperature


def test_part_of_a_balanced_ensemble_is_adjusted_alike() -> None:
    predictions, labels = unsure_of_fear((0.5, 0.6))
    fit = balance(fit_ensemble(predictions, labels), predictions, labels)
    alone = replace(fit, weights=fit.weights[:1])
    unadjusted = replace(alone, adjustment=np.zeros(7))
    recalls = [recall_of_fear(part, predictions[:1], labels) for part in (unadjusted, alone)]
    assert recalls[0] < MIN_RECALL <= recalls[1]


def test_fit_that_finds_every_emotion_is_balanced_already() -> None:
    predictions, labels = members((0.5, 1.0))
    fit = fit_ensemble(predictions, labels)
    assert balance(fit, predictions, labels) is fit


def test_cross_fitted_figures_are_balanced() -> None:
    predictions, labels = unsure_of_fear((0.5, 1.0))
    assert cross_fit(predictions, labels, [1, 1], 9, "half").recall["fear"] > MIN_RECALL


def test_cross_fitted_figures_select_members_on_the_other_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of equally good members, the best on some faces is no better than the rest on others."""
    monkeypatch.setattr("emotion_trainer.bundle.ensembling.HALVINGS", 5)
    # An adjustment that is fitted on so few faces hides the effect.
    monkeypatch.setattr(
        "emotion_trainer.bundle.ensembling.minimum_adjustment", lambda *_: np.zeros(7)
    )
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(200) % 7)
    logits = rng.normal(0.0, 1.0, (8, 200, 7))
    logits[:, np.arange(200), labels] += 1.0
    predictions = log_softmax(logits.astype(np.float32))
    mean = (predictions.argmax(axis=2) == labels).mean()
    best = np.flatnonzero(fit_within(predictions, labels, [1] * 8, 1).fit.weights)
    selected_on_all = cross_fit(predictions[best], labels, [1], 1, "half")
    selected_on_half = cross_fit(predictions, labels, [1] * 8, 1, "half")
    assert selected_on_all.accuracy > mean + 0.04
    assert selected_on_half.accuracy < mean + 0.02


def test_cross_fitted_figures_are_the_mean_over_many_halvings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictions, labels = members((0.5, 1.0))
    measured: list[Metrics] = []

    def measure_and_keep(probabilities: Scores, labels: Labels, split: str) -> Metrics:
        measured.append(measure(probabilities, labels, split))
        return measured[-1]

    monkeypatch.setattr("emotion_trainer.bundle.ensembling.measure", measure_and_keep)
    mean = cross_fit(predictions, labels, [1, 1], 9, "half")
    accuracies = [one.accuracy for one in measured]
    assert len(accuracies) == HALVINGS
    assert len(set(accuracies)) > HALVINGS / 4
    assert mean.accuracy == pytest.approx(np.mean(accuracies), abs=5e-5)
    assert mean.recall["sad"] == pytest.approx(
        np.mean([one.recall["sad"] for one in measured]), abs=5e-5
    )
    assert mean == cross_fit(predictions, labels, [1, 1], 9, "half")


def test_anytime_order_begins_with_the_best_per_mmac() -> None:
    predictions, labels = members((0.5, 1.0, 1.0))
    fit = fit_ensemble(predictions, labels)
    assert anytime_order(predictions, labels, fit, [100.0, 10.0, 12.0])[0] == 1


def test_then_what_gains_most_a_mmac() -> None:
    """A copy of what runs already gains nothing, so the one with news comes before it."""
    predictions, labels = members((1.0, 1.0))
    twice = np.stack([predictions[0], predictions[0], predictions[1]])
    fit = Fit(np.full(3, 1 / 3), temperature=1.0)
    assert anytime_order(twice, labels, fit, [9.0, 10.0, 10.0]) == [0, 2, 1]


def test_each_number_of_members_is_calibrated() -> None:
    """The first member is less often right than all, so it must be less certain."""
    predictions, labels = members((1.5, 1.0, 1.0))
    fit = fit_ensemble(predictions, labels)
    fits = anytime_fits(predictions, labels, fit)
    assert [len(one.weights) for one in fits] == [1, 2, 3]
    assert fits[-1] is fit
    alone = fits[0].probabilities(predictions[:1])
    with_all = replace(fits[0], temperature=fit.temperature).probabilities(predictions[:1])
    assert calibration_error(alone, labels) < 0.03 < calibration_error(with_all, labels)


def test_cross_fitted_figures_are_near_those_of_the_fit() -> None:
    predictions, labels = members((0.5, 1.0))
    accuracy = (
        fit_ensemble(predictions, labels).probabilities(predictions).argmax(1) == labels
    ).mean()
    metrics = cross_fit(predictions, labels, [1, 1], 9, "half")
    assert metrics.accuracy == pytest.approx(accuracy, abs=0.01)
    assert metrics.calibration_error is not None
    assert metrics.calibration_error < 0.04
