"""Plots of runs, drawn without a display.

A plot has a transparent background. In a page, its lines take the colour of the page's text, so it
is readable on light and on dark.
"""

import io
from collections.abc import Mapping
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from edge_daemon.records import EMOTIONS
from emotion_trainer.evaluation.calibration import BINS, Reliability, reliability
from emotion_trainer.evaluation.predictions import Predictions
from emotion_trainer.evaluation.robustness import Curve, Robustness
from emotion_trainer.training.checkpoint import Epoch

INK: Final = "#1b1c1d"
FILL: Final = "#3f83c6"
FAINT: Final = 0.25
# From nothing to the fill, so that the background shows through empty cells.
SHADES: Final = LinearSegmentedColormap.from_list("shades", [f"{FILL}00", f"{FILL}d8"])
# Okabe and Ito's colours (2008), which the colour-blind can distinguish, without black and yellow.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE: Final = mpl.RcParams(
    {
        "axes.edgecolor": INK,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.labelcolor": INK,
        "axes.prop_cycle": f"cycler(linestyle=['-', '--', ':']) * cycler(color={COLOURS})",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "grid.alpha": FAINT,
        "grid.color": INK,
        "grid.linewidth": 0.5,
        "legend.frameon": False,
        "lines.linewidth": 1.5,
        "svg.fonttype": "none",
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": INK,
        "ytick.color": INK,
    }
)


def of_predictions(predictions: Predictions) -> dict[str, Figure]:
    """The plots of one model: its confusion matrix and its reliability diagram."""
    return {
        "confusion": confusion(predictions.confusion),
        "reliability": reliability_diagram(
            reliability(predictions.probabilities, predictions.labels)
        ),
    }


@mpl.rc_context(STYLE)
def confusion(matrix: NDArray[np.int64]) -> Figure:
    """Labels by predictions, int64 [7, 7]: shaded by the share of a label's faces, and counted."""
    figure = Figure(figsize=(4.4, 4.0))
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=SHADES, vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(matrix):
        axes.text(column, row, str(count), ha="center", va="center")
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    return figure


@mpl.rc_context(STYLE)
def reliability_diagram(bins: Reliability) -> Figure:
    """Accuracy by confidence, above how many faces have that confidence."""
    figure = Figure(figsize=(4.0, 4.0))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    starts = np.arange(BINS) / BINS
    filled = bins.share > 0
    upper.bar(starts, bins.accuracy, 1 / BINS, align="edge", color=FILL, alpha=0.6)
    upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--")
    upper.plot(bins.confidence[filled], bins.accuracy[filled], color=INK, marker="o", markersize=3)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    lower.bar(starts, bins.share, 1 / BINS, align="edge", color=FILL, alpha=0.6)
    lower.set(xlabel="confidence", ylabel="share of faces")
    return figure


@mpl.rc_context(STYLE)
def curves(histories: Mapping[str, tuple[Epoch, ...]]) -> Figure:
    """Loss, and accuracy on the validation split, of runs by name."""
    figure = Figure(figsize=(9.0, 3.9))
    left, right = figure.subplots(1, 2)
    for name, history in histories.items():
        numbers = [epoch.number for epoch in history]
        left.plot(numbers, [epoch.loss for epoch in history], label=name)
        right.plot(numbers, [epoch.score for epoch in history], label=name)
    left.set(xlabel="epoch", ylabel="loss on the training split")
    right.set(xlabel="epoch", ylabel="accuracy on the validation split")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


@mpl.rc_context(STYLE)
def accuracy_by_cost(points: Mapping[str, tuple[float, float]]) -> Figure:
    """Accuracy against what a face costs; points are MMAC and accuracy by name."""
    figure = Figure(figsize=(5.6, 3.6))
    axes = figure.subplots()
    for name, (mmac, accuracy) in points.items():
        axes.scatter(mmac, accuracy, zorder=3)
        axes.annotate(name, (mmac, accuracy), xytext=(6, 4), textcoords="offset points")
    axes.margins(0.18)
    axes.set(xlabel="MMAC a face", ylabel="accuracy on the validation split")
    return figure


def of_robustness(robustness: Robustness) -> dict[str, str]:
    """A plot of each curve: SVG files' content by their name."""
    return {plot_name(curve): as_svg_file(degradation(curve)) for curve in robustness.curves}


def plot_name(curve: Curve) -> str:
    """File name of a curve's plot."""
    return f"robustness_{curve.degradation.name}.svg"


@mpl.rc_context(STYLE)
def degradation(curve: Curve) -> Figure:
    """Accuracy at each level of a degradation; the first model, the ensemble, stands out."""
    figure = Figure(figsize=(5.6, 3.6))
    axes = figure.subplots()
    places = range(len(curve.degradation.levels))
    for index, (name, values) in enumerate(curve.accuracies.items()):
        width, marker = (2.2, "o") if index == 0 else (1.0, "")
        axes.plot(places, values, label=name, linewidth=width, marker=marker, markersize=4)
    axes.set_xticks(places, [f"{level:g}" for level in curve.degradation.levels])
    axes.set(xlabel=curve.degradation.title, ylabel="accuracy", ylim=(0, None))
    axes.legend()
    return figure


@mpl.rc_context({**STYLE, "svg.hashsalt": "edge-daemon"})
def as_svg_file(figure: Figure) -> str:
    """The plot as an SVG file of its own, on white, since an image has no page's colours."""
    file = io.StringIO()
    figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None})
    return file.getvalue()


@mpl.rc_context(STYLE)
def as_svg(figure: Figure) -> str:
    """The plot as an SVG element for a page, in the colour of its text."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawn = file.getvalue()
    return drawn[drawn.index("<svg") :].replace(INK, "currentColor")
