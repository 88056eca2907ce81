"""Training one emotion model by one recipe."""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np

from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError
from emotion_trainer.models import families
from emotion_trainer.models.families import cost
from emotion_trainer.models.families.backbone import PretrainedSettings
from emotion_trainer.models.predictions import keras_logits
from emotion_trainer.models.pretrained import load_pretrained
from emotion_trainer.models.warm_start import warm_start
from emotion_trainer.recipe import Recipe
from emotion_trainer.training.batches import epoch_batches, steps_per_epoch
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.distillation import (
    distilled_targets,
    require_teachers,
    soft_labels_for,
)
from emotion_trainer.training.epochs import Batches, EpochLoop
from emotion_trainer.training.provenance import Trial, record_of
from emotion_trainer.training.runs import Run
from emotion_trainer.training.soft_labels import VIEWS
from emotion_trainer.training.targets import class_weights, soft_targets


class Trainer(EpochLoop):
    """The training of an emotion model."""

    def __init__(
        self, recipe: Recipe, dataset: Dataset, run: Run, trial: Trial | None = None
    ) -> None:
        if len(dataset.unlabelled) and recipe.distillation is None:
            raise RecipeError(
                f"{recipe.name}: unlabelled faces require a [distillation] section; "
                "add it, or omit --unlabelled"
            )
        super().__init__(
            record_of(recipe, dataset, trial),
            run,
            partial(build_network, recipe, dataset),
            cross_entropy,
            steps_per_epoch(
                len(dataset.training) + len(dataset.unlabelled), recipe.optimisation.batch
            ),
        )
        self._recipe = recipe
        self._dataset = dataset
        self._soft_labels = run.soft_labels
        self._images = np.concatenate([dataset.training.images, dataset.unlabelled])
        self._targets = np.empty((0, 0, 0), np.float32)

    def summary(self) -> str:
        """The network's name and size, what it costs, and how it is computed, in a line."""
        return (
            f"{self._recipe.name}: {families.within_budget(self._recipe.model)}, "
            f"{cost.mmac(self._model):.1f} MMAC, {cost.parameters(self._model)} parameters; "
            f"{self._model.dtype_policy.name} by {keras.backend.backend()}"
        )

    def run(self, after_epoch: Callable[[], None] | None = None) -> Epoch:
        """Train; see `EpochLoop.run`.

        Raises:
            RecipeError: a teacher is not finished.
            TrainingError: the loss is no longer finite, or the checkpoint is not of this training.
        """
        if not self._soft_labels.exists():
            require_teachers(self._recipe)
        return super().run(after_epoch)

    def _prepare(self) -> None:
        """Compute the targets of both views; each row sums to its face's weight."""
        split = self._dataset.training
        targets = soft_targets(split, self._recipe.targets)
        settings = self._recipe.distillation
        if settings is None:
            self._targets = np.repeat(targets[:, np.newaxis, :], VIEWS, axis=1)
        else:
            labels = soft_labels_for(self._dataset, settings, self._soft_labels)
            self._targets = distilled_targets(targets, self._dataset, labels, settings)
        weights = class_weights(split.labels, self._recipe.targets.class_weighting)
        self._targets[: len(split)] *= weights[:, np.newaxis, np.newaxis]

    def _batches(self, epoch: int) -> Batches:
        return epoch_batches(self._images, self._targets, self._recipe, epoch)

    def _validate(self, model: keras.Model) -> float:
        split = self._dataset.validation
        answers = keras_logits(model, split.images).argmax(axis=1)
        return float((answers == split.labels).mean())


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
    """Cross-entropy of [B, 7] and [B, 7], a sum a face: what a target's row sums to weighs it.

    TensorFlow's own, and so Keras', has the gradient of rows that sum to 1, whatever they do.
    """
    return -keras.ops.sum(targets * keras.ops.log_softmax(logits), axis=-1)
