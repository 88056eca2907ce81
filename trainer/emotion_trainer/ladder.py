"""Several recipes one after the other, unattended: each is trained and exported.

What is finished is skipped and what is unfinished goes on after its last whole epoch, so the
same ladder can be killed and started again at any time.
"""

import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import keras

from emotion_trainer import checkpoint, families
from emotion_trainer.checkpoint import Epoch
from emotion_trainer.data import Dataset
from emotion_trainer.errors import TrainerError, TrainingError
from emotion_trainer.export import export_run
from emotion_trainer.families import cost
from emotion_trainer.provenance import record_of
from emotion_trainer.recipe import Recipe
from emotion_trainer.runs import Run
from emotion_trainer.tracking import Tracker
from emotion_trainer.training import Trainer


@dataclass(frozen=True)
class Rung:
    """A recipe and where its run is; `mmac` is what its network costs a face, in millions."""

    recipe: Recipe
    run: Run
    mmac: float

    @property
    def history(self) -> tuple[Epoch, ...]:
        """The epochs so far."""
        return checkpoint.history(self.run.checkpoint)


class Ladder:
    """Recipes, each trained in a folder of `work`; those with teachers come after the others."""

    def __init__(self, recipes: list[Recipe], dataset: Dataset, work: Path) -> None:
        """Raises RecipeError if a recipe's budget cannot be met: better now than in the night."""
        self._dataset = dataset
        self._tracker = Tracker()
        self._rungs = [
            Rung(recipe, Run(work / recipe.name), cost.mmac(families.build(recipe.model)))
            for recipe in sorted(recipes, key=lambda recipe: recipe.distillation is not None)
        ]

    def climb(self) -> tuple[list[Run], list[str]]:
        """Finish what can be finished.

        Returns:
            The finished and exported runs, and the names of the recipes that failed, which have
            been told on standard error.

        Raises:
            TrainingError: all failed.
        """
        finished, failed = [], []
        for number, rung in enumerate(self._rungs, start=1):
            print(f"[{number}/{len(self._rungs)}] {rung.recipe.name}: {self._outlook()}")
            try:
                self._finish(rung)
            except TrainerError as error:
                print(f"{rung.recipe.name}: failed: {error}", file=sys.stderr)
                failed.append(rung.recipe.name)
            else:
                finished.append(rung.run)
        if not finished:
            raise TrainingError("no recipe could be finished")
        return finished, failed

    def _finish(self, rung: Rung) -> None:
        rung.run.begin(record_of(rung.recipe, self._dataset))
        if len(rung.history) < rung.recipe.optimisation.epochs:
            self._train(rung)
        if not rung.run.is_exported:
            print(export_run(rung.run, self._dataset), flush=True)
        self._tracker.finish(rung.run, self._dataset)

    def _train(self, rung: Rung) -> None:
        keras.backend.clear_session()
        trainer = Trainer(rung.recipe, self._dataset, rung.run)
        print(trainer.summary(), flush=True)
        best = trainer.run(self._tracker.after_epoch)
        print(f"best accuracy {best.accuracy:.4f} in epoch {best.number}", flush=True)

    def _outlook(self) -> str:
        done = [(rung, rung.history) for rung in self._rungs]
        left = time_left([(rung.recipe.optimisation.epochs, rung.mmac, h) for rung, h in done])
        return "time left unknown yet" if left is None else f"about {left} left for all"


def time_left(rungs: list[tuple[int, float, tuple[Epoch, ...]]]) -> timedelta | None:
    """How long the rest will take.

    A run that was begun goes on at its own pace; others are thought to take as long a MMAC as
    the begun ones have taken on the whole.

    Args:
        rungs: of each run its whole number of epochs, its network's MMAC and its epochs so far.

    Returns:
        None if no epoch has been seen.
    """
    spent = sum(epoch.seconds for _, _, history in rungs for epoch in history)
    work = sum(mmac * len(history) for _, mmac, history in rungs)
    if not work:
        return None
    seconds = 0.0
    for epochs, mmac, history in rungs:
        pace = sum(e.seconds for e in history) / len(history) if history else spent / work * mmac
        seconds += (epochs - len(history)) * pace
    return timedelta(seconds=round(seconds))
