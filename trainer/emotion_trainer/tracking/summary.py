"""The figures of a run, read from its folder alone."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emotion_trainer.detector.runs import DetectorRun
from emotion_trainer.errors import TrainingError
from emotion_trainer.evaluation.predictions import Predictions, stored_predictions
from emotion_trainer.models.families import cost
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.provenance import RunRecord
from emotion_trainer.training.runs import Run
from emotion_trainer.training.stopping import best_of


@dataclass(frozen=True)
class Summary:
    """A run in figures.

    Attributes:
        record: its recipe, data and code.
        history: its epochs so far, at least one.
        mmac: million multiply-accumulates of its network for one face.
        parameters: of its network.
        predictions: for the validation split, of the models `float` and `int8`, where stored.
        mlflow_run_id: its id in MLflow, if it was logged there.
    """

    record: RunRecord
    history: tuple[Epoch, ...]
    mmac: float
    parameters: int
    predictions: dict[str, Predictions]
    mlflow_run_id: str | None

    @property
    def name(self) -> str:
        """The name of the recipe."""
        return self.record.recipe.name

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are stored."""
        return best_of(self.history)

    @property
    def seconds(self) -> float:
        """Time spent on training."""
        return sum(epoch.seconds for epoch in self.history)


def summarise(run: Run) -> Summary:
    """Read a run's folder.

    Raises:
        TrainingError: it holds no run or no finished epoch, or is damaged.
    """
    record = run.record()
    history = finished_epochs(run)
    model = run.best_model()
    kept = {kind: stored_predictions(path) for kind, path in run.models().items()}
    return Summary(
        record=record,
        history=history,
        mmac=cost.mmac(model),
        parameters=cost.parameters(model),
        predictions={
            kind: predictions for kind, predictions in kept.items() if predictions is not None
        },
        mlflow_run_id=run.mlflow_run_id,
    )


def runs_among(paths: Sequence[Path]) -> list[Run]:
    """The runs of emotion models among the paths that have a finished epoch.

    Those of face detectors are skipped with a line on standard error, anything else without.

    Raises:
        TrainingError: there is no such run.
    """
    for path in filter(_is_detector, paths):
        print(f"{path}: is the run of a face detector, skipped", file=sys.stderr)
    runs = [run for run in map(Run, paths) if run.checkpoint.exists()]
    if not runs:
        raise TrainingError(f"no run with a finished epoch in {', '.join(map(str, paths))}")
    return runs


def _is_detector(folder: Path) -> bool:
    try:
        DetectorRun(folder).record()
    except TrainingError:
        return False
    return True


def finished_epochs(run: Run) -> tuple[Epoch, ...]:
    """The epochs so far, at least one.

    Raises:
        TrainingError: there is none, or the checkpoint is damaged.
    """
    history = run.history
    if not history:
        raise TrainingError(f"{run.folder}: has no finished epoch yet")
    return history
