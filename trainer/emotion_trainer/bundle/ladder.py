"""Training and export of several recipes, one after the other.

Finished runs are skipped and unfinished ones are resumed after their last whole epoch, so a ladder
can be killed and started again at any time.
"""

import sys
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import keras

from edge_daemon.errors import EdgeDaemonError
from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError, TrainingError
from emotion_trainer.export.int8 import export_run
from emotion_trainer.models import families
from emotion_trainer.models.families import cost
from emotion_trainer.recipe import Recipe, require_distinct_names
from emotion_trainer.tracking.tracker import Tracker
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.distillation import require_soft_labels, require_teachers
from emotion_trainer.training.provenance import record_of, require_files
from emotion_trainer.training.runs import Run
from emotion_trainer.training.trainer import Trainer


@dataclass(frozen=True)
class LadderStep:
    """A recipe, its run, and its network's million multiply-accumulates for one face."""

    recipe: Recipe
    run: Run
    mmac: float

    @property
    def folder(self) -> Path:
        """The run's folder, resolved so that it can be compared with others."""
        return self.run.folder.resolve()

    @property
    def start_folder(self) -> Path | None:
        """The folder of the model that it continues from, if any."""
        start = self.recipe.start
        return start.parent.resolve() if start is not None else None

    @property
    def source_folders(self) -> list[Path]:
        """Folders of the models that it learns or continues from; some may be runs."""
        start = [self.start_folder] if self.start_folder is not None else []
        return [*(teacher.resolve() for teacher in self.recipe.teachers), *start]

    @property
    def outputs(self) -> list[Path]:
        """The model files of the finished run."""
        run = self.run
        exported = [run.int8_path_of(self.recipe.name)] if self.recipe.bundled else []
        return [path.resolve() for path in (run.best, *exported)]


class Ladder:
    """Recipes, each trained in a folder of `work`; those that others need come first."""

    def __init__(self, recipes: list[Recipe], dataset: Dataset, work: Path) -> None:
        """Check all recipes before the first training starts.

        Raises:
            RecipeError: two recipes have the same name, none is to be bundled, a network cannot
                be built, or a recipe needs itself or a model that is neither listed nor finished.
            TrainingError: soft labels are damaged or of other faces.
        """
        _check(recipes)
        self._dataset = dataset
        self._tracker = Tracker()
        self._steps = in_order(
            [
                LadderStep(recipe, Run(work / recipe.name), cost.mmac(families.build(recipe.model)))
                for recipe in recipes
            ]
        )
        outputs = {path for step in self._steps for path in step.outputs}
        for step in self._steps:
            require_files(step.recipe, pending=outputs)
            if not step.run.is_finished:
                dataset = self._dataset_for(step.recipe)
                require_soft_labels(step.recipe, dataset, step.run.soft_labels)

    def run(self) -> tuple[list[Run], list[str]]:
        """Train and export all recipes; one that needs a failed recipe fails, too.

        Returns:
            The finished and exported runs, without those that are teachers alone; and the names
            of the recipes that failed, which are reported on standard error.

        Raises:
            TrainingError: nothing that is to be bundled could be finished.
        """
        finished, failed = list[LadderStep](), list[LadderStep]()
        for number, step in enumerate(self._steps, start=1):
            print(f"[{number}/{len(self._steps)}] {step.recipe.name}: {self._outlook()}")
            try:
                _require_start(step, failed)
                self._finish(step)
            except EdgeDaemonError as error:
                print(f"{step.recipe.name}: failed: {error}", file=sys.stderr)
                failed.append(step)
            else:
                finished.append(step)
        bundled = [step.run for step in finished if step.recipe.bundled]
        if not bundled:
            raise TrainingError("recipes: none of those to be bundled could be finished; see above")
        return bundled, [step.recipe.name for step in failed]

    def _finish(self, step: LadderStep) -> None:
        if step.run.is_finished:
            # Refuses a run of another recipe, and follows a changed `bundled`.
            step.run.begin(record_of(step.recipe, self._dataset_for(step.recipe)))
        else:
            self._train(step)
        if step.recipe.bundled and not step.run.is_exported:
            print(export_run(step.run, self._dataset), flush=True)
        self._tracker.finish(step.run, self._dataset)

    def _train(self, step: LadderStep) -> None:
        keras.backend.clear_session()
        trainer = Trainer(step.recipe, self._dataset_for(step.recipe), step.run)
        print(trainer.summary(), flush=True)
        best = trainer.run(partial(self._tracker.after_epoch, step.run))
        print(f"best accuracy {best.score:.4f} in epoch {best.number}", flush=True)

    def _dataset_for(self, recipe: Recipe) -> Dataset:
        """The data set; unlabelled faces are for recipes whose teachers can label them."""
        return self._dataset if recipe.distillation else self._dataset.without_unlabelled()

    def _outlook(self) -> str:
        left = time_left([(_epochs(step), step.mmac, step.run.history) for step in self._steps])
        return "time left unknown yet" if left is None else f"about {left} left for all"


def _check(recipes: list[Recipe]) -> None:
    require_distinct_names(recipe.name for recipe in recipes)
    if not any(recipe.bundled for recipe in recipes):
        names = [recipe.name for recipe in recipes]
        raise RecipeError(f"{', '.join(names)}: all have bundled = false; use train for teachers")


def in_order(steps: list[LadderStep]) -> list[LadderStep]:
    """Recipes before those that learn or continue from their models.

    Raises:
        RecipeError: a teacher is neither among them nor finished, or recipes need each other.
    """
    by_folder = {step.folder: step for step in steps}
    for step in steps:
        if not step.run.soft_labels.exists():
            require_teachers(step.recipe, pending=by_folder)
    graph = {step.folder: step.source_folders for step in steps}
    try:
        order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " before ".join(folder.name for folder in error.args[1])
        raise RecipeError(
            f"recipes: circular dependency: {circle}; change a teacher or start"
        ) from error
    return [by_folder[folder] for folder in order if folder in by_folder]


def _require_start(step: LadderStep, failed: list[LadderStep]) -> None:
    """Refuse to continue from a model that a failed run, or an earlier one, left behind.

    Raises:
        TrainingError: the run of the model to continue from failed.
    """
    if not step.run.is_finished and step.start_folder in {other.folder for other in failed}:
        raise TrainingError(f"start: {step.recipe.start}: its run failed; see above")


def _epochs(step: LadderStep) -> int:
    """The number of epochs of a run; early stopping ends it with fewer than its recipe has."""
    return len(step.run.history) if step.run.is_finished else step.recipe.optimisation.epochs


def time_left(steps: list[tuple[int, float, tuple[Epoch, ...]]]) -> timedelta | None:
    """The remaining time of all runs.

    A run with finished epochs continues at its own speed. The others are assumed to need the mean
    time per MMAC of those.

    Args:
        steps: for each run, all its epochs, its network's MMAC, and the epochs so far.

    Returns:
        None if no run has a finished epoch.
    """
    spent = sum(epoch.seconds for _, _, history in steps for epoch in history)
    work = sum(mmac * len(history) for _, mmac, history in steps)
    if not work:
        return None
    seconds = 0.0
    for epochs, mmac, history in steps:
        measured = sum(epoch.seconds for epoch in history) / max(1, len(history))
        per_epoch = measured if history else spent / work * mmac
        seconds += (epochs - len(history)) * per_epoch
    return timedelta(seconds=round(seconds))
