"""Training one emotion model by one recipe, epoch by epoch: it can be stopped and resumed."""

import math
import time
from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray

from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError, TrainingError
from emotion_trainer.models import families
from emotion_trainer.models.families import cost
from emotion_trainer.models.families.backbone import PretrainedSettings
from emotion_trainer.models.predictions import keras_logits
from emotion_trainer.models.pretrained import load_pretrained
from emotion_trainer.models.warm_start import warm_start
from emotion_trainer.recipe import Recipe
from emotion_trainer.training import checkpoint as checkpoints
from emotion_trainer.training.averaging import WeightAverage
from emotion_trainer.training.batches import epoch_batches, steps_per_epoch
from emotion_trainer.training.checkpoint import Checkpoint, Epoch
from emotion_trainer.training.distillation import (
    distilled_targets,
    require_soft_labels,
    require_teachers,
    soft_labels_for,
)
from emotion_trainer.training.optimiser import optimiser_for
from emotion_trainer.training.origins import origins_of_start
from emotion_trainer.training.precision import computing_in
from emotion_trainer.training.progress import Progress
from emotion_trainer.training.provenance import Trial, record_of
from emotion_trainer.training.runs import Run
from emotion_trainer.training.stopping import best_of, is_over
from emotion_trainer.training.targets import class_weights, soft_targets


class Trainer:
    """The training of an emotion model, validated with the moving average of its weights.

    Args:
        recipe: all settings of the training.
        dataset: the faces to train on and to validate on.
        run: the folder of its files.
        trial: how the recipe or the data was shortened, if it was.

    Raises:
        RecipeError: the network cannot be built, or unlabelled faces have no teacher.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, run: Run, trial: Trial | None = None
    ) -> None:
        if len(dataset.unlabelled) and recipe.distillation is None:
            raise RecipeError(
                f"{recipe.name}: unlabelled faces require a [distillation] section; "
                "add it, or omit --unlabelled"
            )
        keras.utils.set_random_seed(recipe.seed)
        self._recipe = recipe
        self._settings = recipe.optimisation
        self._record = record_of(recipe, dataset, trial, origins_of_start(recipe))
        self._dataset = dataset
        self._run = run
        self._images = np.concatenate([dataset.training.images, dataset.unlabelled])
        self._steps = steps_per_epoch(len(self._images), self._settings.batch)
        with computing_in(self._settings.precision):
            self._model = build_network(recipe, dataset)
        self._ema_model = build_network(recipe, dataset)
        self._model.compile(optimiser_for(self._model, self._settings, self._steps), cross_entropy)
        self._ema = WeightAverage(self._model, self._settings.ema_momentum)
        self._history: tuple[Epoch, ...] = ()

    def summary(self) -> str:
        """The network's name, cost, parameters, precision and backend, in a line."""
        return (
            f"{self._recipe.name}: {families.within_budget(self._recipe.model)}, "
            f"{cost.mmac(self._model):.1f} MMAC, {cost.parameters(self._model)} parameters; "
            f"{self._model.dtype_policy.name} by {keras.backend.backend()}"
        )

    def run(self, after_epoch: Callable[[], None] | None = None) -> Epoch:
        """Train until the recipe's stopping rule and return the best epoch, whose weights are kept.

        Continues from the folder's checkpoint if there is one. `after_epoch` is called when
        an epoch is on disk.

        Raises:
            RecipeError: a teacher is not finished.
            TrainingError: soft labels are of other faces, the loss is not finite, the checkpoint is
                not of this training, or another process trains in the folder.
        """
        if not self._run.soft_labels.exists():
            require_teachers(self._recipe)
        require_soft_labels(self._recipe, self._dataset, self._run.soft_labels)
        with self._run.reserved():
            self._run.begin(self._record)
            self._resume()
            if not self._is_over():
                self._train(after_epoch)
        return best_of(self._history)

    def _train(self, after_epoch: Callable[[], None] | None) -> None:
        targets = self._targets()
        progress = Progress(self._settings.epochs, self._steps, "accuracy")
        while not self._is_over():
            started = time.monotonic()
            number = len(self._history) + 1
            loss = self._train_epoch(number, targets, progress)
            self._ema_model.set_weights(self._ema.weights)
            self._keep(Epoch(number, loss, self._accuracy(), time.monotonic() - started))
            progress.epoch(self._history[-1], best_of(self._history))
            if after_epoch is not None:
                after_epoch()
        if len(self._history) < self._settings.epochs:
            print(f"no better accuracy in {self._settings.patience} epochs", flush=True)

    def _is_over(self) -> bool:
        return is_over(self._history, self._settings.epochs, self._settings.patience)

    def _targets(self) -> NDArray[np.float32]:
        """Targets, float32 [N, 7]; each row sums to its face's weight."""
        split = self._dataset.training
        targets = soft_targets(split, self._recipe.targets)
        settings = self._recipe.distillation
        if settings is not None:
            labels = soft_labels_for(self._dataset, settings, self._run.soft_labels)
            targets = distilled_targets(targets, labels, settings)
        weights = class_weights(split.labels, self._recipe.targets.class_weighting)
        targets[: len(split)] *= weights[:, np.newaxis]
        return targets

    def _train_epoch(self, epoch: int, targets: NDArray[np.float32], progress: Progress) -> float:
        """Take all steps of an epoch, counted from 1; returns the mean loss."""
        total = 0.0
        train_on = training_step(self._model, (self._recipe.seed, epoch))
        batches = epoch_batches(self._images, targets, self._recipe, epoch)
        for step, batch in enumerate(batches, start=1):
            loss = train_on(*batch)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"epoch {epoch}, step {step}: the loss is {loss}; lower the learning rate"
                )
            total += loss
            self._ema.update(self._model, (epoch - 1) * self._steps + step)
            progress.step(epoch, step, total / step)
        return total / self._steps

    def _accuracy(self) -> float:
        """The averaged weights' accuracy on the validation split."""
        split = self._dataset.validation
        predictions = keras_logits(self._ema_model, split.images).argmax(axis=1)
        return float((predictions == split.labels).mean())

    def _keep(self, epoch: Epoch) -> None:
        self._history += (epoch,)
        if best_of(self._history) is epoch:
            unfinished = self._run.best.with_name("unfinished.keras")
            self._ema_model.save(unfinished)
            unfinished.replace(self._run.best)
        variables = checkpoints.training_variables(self._model)
        state = Checkpoint(
            history=self._history,
            variables=[keras.ops.convert_to_numpy(variable) for variable in variables],
            average=self._ema.weights,
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
        self._ema.weights = state.average
        self._history = state.history
        what = "was finished" if self._is_over() else "resumes"
        print(f"{what} after epoch {len(self._history)}", flush=True)


def training_step(
    model: keras.Model, seed: tuple[int, int]
) -> Callable[[NDArray[np.float32], NDArray[np.float32]], float]:
    """A function that trains a compiled model on a batch and returns the mean loss.

    It takes samples float32 [B, 48, 48, 1] and targets float32 [B, 7].

    Args:
        model: is trained.
        seed: of random layers, where their state is not in the model: the recipe's, and the epoch.
    """
    if keras.backend.backend() == "torch":
        from emotion_trainer.training.torch_step import TorchStep

        if TorchStep.supports(model):
            return TorchStep(model, seed)
    return lambda samples, targets: float(model.train_on_batch(samples, targets))


def build_network(recipe: Recipe, dataset: Dataset) -> keras.Model:
    """Build a recipe's network with the weights that its training begins with.

    Raises:
        RecipeError: the network cannot be built, or the file to continue from does not fit it.
    """
    model = families.build(recipe.model)
    if isinstance(recipe.model, PretrainedSettings) and recipe.model.weights is not None:
        load_pretrained(model, recipe.model.weights, dataset.training.images)
    if recipe.start is not None:
        warm_start(model, recipe.start, dataset.training.images)
    return model


def cross_entropy(targets: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Cross-entropy of [B, 7] and [B, 7], for each face; a target's sum is its weight.

    Keras' own calls TensorFlow's, whose gradient is that of targets which sum to 1.
    """
    return -keras.ops.sum(targets * keras.ops.log_softmax(logits), axis=-1)
