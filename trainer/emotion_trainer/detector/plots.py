"""Plots of a detector's figures, drawn without a display."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from emotion_trainer.detector.calibration import USUAL
from emotion_trainer.detector.evaluation import precision_recall
from emotion_trainer.detector.report import Group, Report


def write_plots(report: Report, folder: Path) -> list[Path]:
    """Write every plot to `folder` as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"precision-recall": _precision_recall(report), "false-positives": _imagined(report)}
    for name, groups in report.groups().items():
        plots[f"recall-by-{name.partition(' ')[0]}"] = _recall_by(name, groups)
    paths = []
    for name, figure in plots.items():
        path = folder / f"{name}.svg"
        figure.savefig(path)
        paths.append(path)
    return paths


def _precision_recall(report: Report) -> Figure:
    precision, recall = precision_recall(report.judged)
    figure = Figure(figsize=(4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(recall, precision)
    axes.plot(report.recall, report.precision, "o")
    axes.annotate(f" score {USUAL:g}", (report.recall, report.precision), va="top", ha="right")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    return figure


def _imagined(report: Report) -> Figure:
    least = np.linspace(0.05, 0.99, 95)
    number = (report.imagined[:, np.newaxis] >= least).sum(axis=0) / report.empty
    figure = Figure(figsize=(4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(least, number)
    axes.axvline(USUAL, linestyle=":")
    axes.set(xlabel="least score", ylabel="false positives in a scene without a face")
    return figure


def _recall_by(name: str, groups: list[Group]) -> Figure:
    figure = Figure(figsize=(4, 3.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar([group.name for group in groups], [group.recall for group in groups])
    axes.bar_label(bars, [f"{group.recall:.2f}\n{group.faces} faces" for group in groups])
    axes.set(xlabel=name, ylabel="recall", ylim=(0, 1.18))
    return figure
