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
from emotion_trainer.distillation import teach
from emotion_trainer.errors import TrainingError
from emotion_trainer.families import cost
from emotion_trainer.predictions import keras_logits
from emotion_trainer.progress import Progress
from emotion_trainer.provenance import record_of
from emotion_trainer.recipe import Optimisation, Recipe
from emotion_trainer.runs import Run
from emotion_trainer.targets import soft_targets

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
        self._model = families.build(recipe.model)
        self._averaged = families.build(recipe.model)
        compile_model(self._model, recipe.optimisation, self._steps)
        self._average = WeightAverage(self._model, recipe.optimisation.ema_momentum)
        self._history: tuple[Epoch, ...] = ()

    def summary(self) -> str:
        """The network's name, its width and what it costs, in a line."""
        model = families.within_budget(self._recipe.model)
        return (
            f"{self._recipe.name}: {model.family} of width {model.width:.3g}, "
            f"{cost.mmac(self._model):.1f} MMAC, {cost.parameters(self._model)} parameters"
        )

    def run(self, after_epoch: Callable[[Run], None] | None = None) -> Epoch:
        """Train to the recipe's last epoch and return the best one, whose weights are kept.

        Goes on from the folder's checkpoint if there is one. `after_epoch` is called with the run
        when an epoch is on disk.

        Raises:
            TrainingError: the loss is no longer finite, or the checkpoint is not of this training.
        """
        self._run.begin(record_of(self._recipe, self._dataset))
        self._resume()
        targets = self._targets()
        epochs = self._recipe.optimisation.epochs
        progress = Progress(epochs, self._steps)
        for number in range(len(self._history) + 1, epochs + 1):
            started = time.monotonic()
            loss = self._learn(number, targets, progress)
            accuracy = self._validate()
            self._keep(Epoch(number, loss, accuracy, time.monotonic() - started))
            progress.epoch(self._history[-1], self._best())
            if after_epoch is not None:
                after_epoch(self._run)
        return self._best()

    def _targets(self) -> NDArray[np.float32]:
        targets = soft_targets(self._dataset.training, self._recipe.targets)
        settings = self._recipe.distillation
        if settings is None:
            return targets
        taught = teach(self._dataset.training.images, settings, self._run.lesson)
        return targets + np.float32(settings.share) * (taught - targets)

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
        if self._best() is epoch:
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
        for variable, value in zip(variables, state.variables, strict=True):
            variable.assign(value)
        self._average.weights = state.average
        self._history = state.history
        print(f"goes on after epoch {len(self._history)}", flush=True)

    def _best(self) -> Epoch:
        return max(self._history, key=lambda epoch: epoch.accuracy)


def compile_model(model: keras.Model, settings: Optimisation, steps: int) -> None:
    """Give the model its optimiser and loss; `steps` is the number of steps in an epoch."""
    schedule = learning_rate(settings, steps)
    optimiser = keras.optimizers.SGD(
        schedule, settings.momentum, nesterov=True, weight_decay=settings.weight_decay
    )
    optimiser.exclude_from_weight_decay(var_names=UNDECAYED)
    optimiser.build(model.trainable_variables)
    # XLA is slower than TensorFlow's own kernels on processors, where this trains.
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimiser, loss, jit_compile=False)


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
