"""A page that compares runs: a table, curves, accuracy against cost, and plots of each run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from edge_daemon.inference.bundle import Metrics
from emotion_trainer.evaluation.predictions import Predictions
from emotion_trainer.templating import render
from emotion_trainer.tracking import plots
from emotion_trainer.tracking.summary import Summary, summarise
from emotion_trainer.training.runs import Run


@dataclass(frozen=True)
class Row:
    """A run in the page, under a unique label."""

    label: str
    summary: Summary

    @property
    def kind(self) -> str:
        """The model whose plots are shown: `int8`, or `float` where none was exported."""
        return "int8" if "int8" in self.summary.predictions else "float"

    @property
    def predictions(self) -> Predictions | None:
        """The predictions of that model, where they are stored."""
        return self.summary.predictions.get(self.kind)

    @property
    def float_accuracy(self) -> float:
        """The accuracy of the best epoch."""
        return self.summary.best.score

    @property
    def int8_accuracy(self) -> float | None:
        """The accuracy of the int8 file, where its predictions are stored."""
        predictions = self.summary.predictions.get("int8")
        return None if predictions is None else predictions.metrics.accuracy

    @property
    def metrics(self) -> Metrics | None:
        """The figures of the model whose plots are shown."""
        return None if self.predictions is None else self.predictions.metrics

    @property
    def calibration_error(self) -> float | None:
        """The calibration error of the model whose plots are shown."""
        return None if self.metrics is None else self.metrics.calibration_error

    @property
    def weakest(self) -> tuple[str, float] | None:
        """The emotion with the least recall, and its recall."""
        return (
            None if self.metrics is None else min(self.metrics.recall.items(), key=lambda i: i[1])
        )

    @property
    def point(self) -> tuple[float, float]:
        """MMAC and accuracy of the model whose plots are shown."""
        accuracy = self.float_accuracy if self.metrics is None else self.metrics.accuracy
        return self.summary.mmac, accuracy

    @property
    def time(self) -> timedelta:
        """Spent on training, in whole seconds."""
        return timedelta(seconds=round(self.summary.seconds))

    @property
    def plots(self) -> dict[str, str]:
        """SVG elements by name."""
        if self.predictions is None:
            return {}
        return {
            name: plots.as_svg(plot)
            for name, plot in plots.of_predictions(self.predictions).items()
        }


def report(runs: Sequence[Run]) -> str:
    """The page, HTML that needs no other file.

    Raises:
        TrainingError: a run's folder is damaged.
    """
    rows = [Row(_label(run, runs), summarise(run)) for run in runs]
    return render(
        "report.html",
        rows=rows,
        splits=sorted({row.predictions.split for row in rows if row.predictions}),
        several_data=len({row.summary.record.data_fingerprint for row in rows}) > 1,
        without_predictions=[row.label for row in rows if row.predictions is None],
        best_float=max(row.float_accuracy for row in rows),
        best_int8=max(_present([row.int8_accuracy for row in rows]), default=math.nan),
        best_calibration=min(_present([row.calibration_error for row in rows]), default=math.nan),
        curves=plots.as_svg(plots.curves({row.label: row.summary.history for row in rows})),
        accuracy_by_cost=plots.as_svg(plots.accuracy_by_cost({r.label: r.point for r in rows})),
    )


def _present(figures: list[float | None]) -> list[float]:
    return [figure for figure in figures if figure is not None]


def _label(run: Run, runs: Sequence[Run]) -> str:
    """The folder's name, or its whole path where two have the same name; a trial is marked."""
    name = run.folder.resolve().name
    alone = sum(other.folder.resolve().name == name for other in runs) == 1
    label = name if alone else str(run.folder)
    return f"{label} (trial)" if run.record().trial else label
