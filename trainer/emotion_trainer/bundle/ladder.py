"""Several recipes one after the other, unattended: each is trained and exported.

What is finished is skipped and what is unfinished goes on after its last whole epoch, so the
same ladder can be killed and started again at any time.
"""

import sys
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import keras

from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError, TrainerError, TrainingError
from emotion_trainer.export.int8 import export_run
from emotion_trainer.models import families
from emotion_trainer.models.families import cost
from emotion_trainer.recipe import Recipe, require_distinct_names
from emotion_trainer.tracking.tracker import Tracker
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.distillation import require_teachers
from emotion_trainer.training.provenance import record_of
from emotion_trainer.training.runs import Run
from emotion_trainer.training.trainer import Trainer


@dataclass(frozen=True)
class Rung:
    """A recipe and where its run is; `mmac` is what its network costs a face, in millions."""

    recipe: Recipe
    run: Run
    mmac: float

    @property
    def folder(self) -> Path:
        """The run's folder, written in the one way in which folders can be compared."""
        return self.run.folder.resolve()


class Ladder:
    """Recipes, each trained in a folder of `work`; teachers come before those they teach."""

    def __init__(self, recipes: list[Recipe], dataset: Dataset, work: Path) -> None:
        """Refuse what would fail later: better now than in the night.

        Raises:
            RecipeError: two recipes have the same name, none is to be bundled, a network cannot
                be built, or a recipe learns from itself or from what is neither here nor finished.
        """
        _check(recipes)
        self._dataset = dataset
        self._tracker = Tracker()
        self._rungs = in_order(
            [
                Rung(recipe, Run(work / recipe.name), cost.mmac(families.build(recipe.model)))
                for recipe in recipes
            ]
        )

    def climb(self) -> tuple[list[Run], list[str]]:
        """Finish what can be finished; what learns from a recipe that failed fails too.

        Returns:
            The finished and exported runs, without those that are teachers alone; and the names
            of the recipes that failed, which are reported on standard error.

        Raises:
            TrainingError: nothing that is to be bundled could be finished.
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
                finished.append(rung)
        bundled = [rung.run for rung in finished if rung.recipe.bundled]
        if not bundled:
            raise TrainingError("no recipe could be finished that is to be bundled")
        return bundled, failed

    def _finish(self, rung: Rung) -> None:
        rung.run.begin(record_of(rung.recipe, self._dataset))
        if not rung.run.is_finished:
            self._train(rung)
        if rung.recipe.bundled and not rung.run.is_exported:
            print(export_run(rung.run, self._dataset), flush=True)
        self._tracker.finish(rung.run, self._dataset)

    def _train(self, rung: Rung) -> None:
        keras.backend.clear_session()
        trainer = Trainer(rung.recipe, self._dataset, rung.run)
        print(trainer.summary(), flush=True)
        best = trainer.run(partial(self._tracker.after_epoch, rung.run))
        print(f"best accuracy {best.score:.4f} in epoch {best.number}", flush=True)

    def _outlook(self) -> str:
        left = time_left([(_epochs(rung), rung.mmac, rung.run.history) for rung in self._rungs])
        return "time left unknown yet" if left is None else f"about {left} left for all"


def _check(recipes: list[Recipe]) -> None:
    require_distinct_names(recipe.name for recipe in recipes)
    if not any(recipe.bundled for recipe in recipes):
        names = [recipe.name for recipe in recipes]
        raise RecipeError(f"{', '.join(names)}: no recipe is to be bundled; use train for teachers")


def in_order(rungs: list[Rung]) -> list[Rung]:
    """Teachers before those that learn from them.

    Raises:
        RecipeError: a teacher is neither among them nor finished, or learns from its own student.
    """
    by_folder = {rung.folder: rung for rung in rungs}
    for rung in rungs:
        if not rung.run.soft_labels.exists():
            require_teachers(rung.recipe, pending=by_folder)
    graph = {rung.folder: [teacher.resolve() for teacher in rung.recipe.teachers] for rung in rungs}
    try:
        order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " teaches ".join(folder.name for folder in error.args[1])
        raise RecipeError(f"recipes learn from each other in a circle: {circle}") from error
    return [by_folder[folder] for folder in order if folder in by_folder]


def _epochs(rung: Rung) -> int:
    """All epochs of a run; early stopping may have made them fewer than its recipe's."""
    return len(rung.run.history) if rung.run.is_finished else rung.recipe.optimisation.epochs


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
