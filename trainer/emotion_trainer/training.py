"""Training one network by one recipe."""

import math
import time
from collections.abc import Callable
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from emotion_trainer import checkpoint as checkpoints
from emotion_trainer import families
from emotion_trainer.averaging import WeightAverage
from emotion_trainer.batches import epoch_batches, steps_per_epoch
from emotion_trainer.checkpoint import Checkpoint, Epoch
from emotion_trainer.data import Dataset
from emotion_trainer.distillation import require_teachers, teach
from emotion_trainer.errors import TrainingError
from emotion_trainer.families import cost
from emotion_trainer.precision import computing_in
from emotion_trainer.predictions import keras_logits
from emotion_trainer.progress import Progress
from emotion_trainer.provenance import record_of
from emotion_trainer.recipe import Optimisation, Recipe
from emotion_trainer.runs import Run
from emotion_trainer.stopping import best_of, is_over
from emotion_trainer.targets import class_weights, soft_targets

# Decay pulls kernels towards zero; batch normalisation's own weights and biases have no need of it.
UNDECAYED: Final = ["gamma", "beta", "bias"]


class Trainer:
    """A training: the model, its averaged twin, and what came of the epochs so far."""

    def __init__(self, recipe: Recipe, dataset: Dataset, run: Run) -> None:
        keras.utils.set_random_seed(recipe.seed)
        self._recipe = recipe
        self._dataset = dataset
        self._run = run
        self._steps = steps_per_epoch(len(dataset.training), recipe.optimisation.batch)
        with computing_in(recipe.optimisation.precision):
            self._model = families.build(recipe.model)
        self._averaged = families.build(recipe.model)
        compile_model(self._model, recipe.optimisation, self._steps)
        self._average = WeightAverage(self._model, recipe.optimisation.ema_momentum)
        self._history: tuple[Epoch, ...] = ()

    def summary(self) -> str:
        """The network's name and size, what it costs, and how it is computed, in a line."""
        return (
            f"{self._recipe.name}: {families.within_budget(self._recipe.model)}, "
            f"{cost.mmac(self._model):.1f} MMAC, {cost.parameters(self._model)} parameters; "
            f"{self._model.dtype_policy.name} by {keras.backend.backend()}"
        )

    def run(self, after_epoch: Callable[[Run], None] | None = None) -> Epoch:
        """Train until the recipe says so and return the best epoch, whose weights are kept.

        Goes on from the folder's checkpoint if there is one. `after_epoch` is called with the run
        when an epoch is on disk.

        Raises:
            RecipeError: a teacher is not finished.
            TrainingError: the loss is no longer finite, or the checkpoint is not of this training.
        """
        if not self._run.lesson.exists():
            require_teachers(self._recipe)
        self._run.begin(record_of(self._recipe, self._dataset))
        self._resume()
        if not self._is_over():
            self._train(after_epoch)
        return best_of(self._history)

    def _train(self, after_epoch: Callable[[Run], None] | None) -> None:
        targets = self._targets()
        progress = Progress(self._recipe.optimisation.epochs, self._steps)
        while not self._is_over():
            started = time.monotonic()
            number = len(self._history) + 1
            loss = self._learn(number, targets, progress)
            accuracy = self._validate()
            self._keep(Epoch(number, loss, accuracy, time.monotonic() - started))
            progress.epoch(self._history[-1], best_of(self._history))
            if after_epoch is not None:
                after_epoch(self._run)
        if len(self._history) < self._recipe.optimisation.epochs:
            print(f"no better accuracy in {self._recipe.optimisation.patience} epochs", flush=True)

    def _is_over(self) -> bool:
        return is_over(self._history, self._recipe.optimisation)

    def _targets(self) -> NDArray[np.float32]:
        """What the faces are to be taken for; each row sums to how much its face counts."""
        split = self._dataset.training
        targets = soft_targets(split, self._recipe.targets)
        settings = self._recipe.distillation
        if settings is not None:
            taught = teach(split.images, settings, self._run.lesson)
            targets += np.float32(settings.share) * (taught - targets)
        weights = class_weights(split.labels, self._recipe.targets.class_weighting)
        return weights[:, np.newaxis] * targets

    def _learn(self, epoch: int, targets: NDArray[np.float32], progress: Progress) -> float:
        total = 0.0
        batches = epoch_batches(self._dataset.training.images, targets, self._recipe, epoch)
        for step, (faces, wanted) in enumerate(batches, start=1):
            loss = float(self._model.train_on_batch(faces, wanted))
            if not math.isfinite(loss):
                raise TrainingError(
                    f"epoch {epoch}, step {step}: the loss is {loss}; lower the learning rate"
                )
            total += loss
            self._average.update(self._model, (epoch - 1) * self._steps + step)
            progress.step(epoch, step, total / step)
        return total / self._steps

    def _validate(self) -> float:
        self._averaged.set_weights(self._average.weights)
        split = self._dataset.validation
        answers = keras_logits(self._averaged, split.images).argmax(axis=1)
        return float((answers == split.labels).mean())

    def _keep(self, epoch: Epoch) -> None:
        self._history += (epoch,)
        if best_of(self._history) is epoch:
            unfinished = self._run.best.with_name("unfinished.keras")
            self._averaged.save(unfinished)
            unfinished.replace(self._run.best)
        variables = checkpoints.training_variables(self._model)
        state = Checkpoint(
            history=self._history,
            variables=[keras.ops.convert_to_numpy(variable) for variable in variables],
            average=self._average.weights,
        )
        checkpoints.save(state, self._run.checkpoint)

    def _resume(self) -> None:
        if not self._run.checkpoint.exists():
            return
        state = checkpoints.load(self._run.checkpoint)
        variables = checkpoints.training_variables(self._model)
        if [tuple(v.shape) for v in variables] != [value.shape for value in state.variables]:
            raise TrainingError(f"{self._run.checkpoint}: is of another network; remove it")
        for variable, value in zip(variables, state.variables, strict=True):
            variable.assign(value)
        self._average.weights = state.average
        self._history = state.history
        what = "was finished" if self._is_over() else "goes on"
        print(f"{what} after epoch {len(self._history)}", flush=True)


def compile_model(model: keras.Model, settings: Optimisation, steps: int) -> None:
    """Give the model its optimiser and loss; `steps` is the number of steps in an epoch."""
    schedule = learning_rate(settings, steps)
    optimiser = keras.optimizers.SGD(
        schedule, settings.momentum, nesterov=True, weight_decay=settings.weight_decay
    )
    optimiser.exclude_from_weight_decay(var_names=UNDECAYED)
    optimiser.build(model.trainable_variables)
    model.compile(optimiser, cross_entropy)


def learning_rate(
    settings: Optimisation, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate at a step counted from 0, `steps` of which make an epoch."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=round((settings.epochs - settings.warmup_epochs) * steps),
        warmup_target=settings.learning_rate,
        warmup_steps=round(settings.warmup_epochs * steps),
    )


def cross_entropy(targets: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Cross-entropy of [B, 7] and [B, 7], a sum a face: what a target's row sums to weighs it.

    TensorFlow's own, and so Keras', has the gradient of rows that sum to 1, whatever they do.
    """
    return -keras.ops.sum(targets * keras.ops.log_softmax(logits), axis=-1)
