"""Training one emotion model by one recipe."""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np

from emotion_trainer import families
from emotion_trainer.batches import epoch_batches, steps_per_epoch
from emotion_trainer.checkpoint import Epoch
from emotion_trainer.data import Dataset
from emotion_trainer.distillation import require_teachers, teach
from emotion_trainer.epochs import Batches, EpochLoop
from emotion_trainer.families import cost
from emotion_trainer.predictions import keras_logits
from emotion_trainer.provenance import RunRecord, record_of
from emotion_trainer.recipe import Recipe
from emotion_trainer.runs import Run
from emotion_trainer.targets import class_weights, soft_targets


class Trainer(EpochLoop[RunRecord]):
    """The training of an emotion model."""

    def __init__(self, recipe: Recipe, dataset: Dataset, run: Run) -> None:
        super().__init__(
            record_of(recipe, dataset),
            run,
            partial(families.build, recipe.model),
            cross_entropy,
            steps_per_epoch(len(dataset.training), recipe.optimisation.batch),
        )
        self._recipe = recipe
        self._dataset = dataset
        self._lesson = run.lesson
        self._targets = np.empty((0, 0), np.float32)

    def summary(self) -> str:
        """The network's name and size, what it costs, and how it is computed, in a line."""
        return (
            f"{self._recipe.name}: {families.within_budget(self._recipe.model)}, "
            f"{cost.mmac(self._model):.1f} MMAC, {cost.parameters(self._model)} parameters; "
            f"{self._model.dtype_policy.name} by {keras.backend.backend()}"
        )

    def run(self, after_epoch: Callable[[], None] | None = None) -> Epoch:
        """As with any network.

        Raises:
            RecipeError: a teacher is not finished.
            TrainingError: the loss is no longer finite, or the checkpoint is not of this training.
        """
        if not self._lesson.exists():
            require_teachers(self._recipe)
        return super().run(after_epoch)

    def _prepare(self) -> None:
        """What the faces are to be taken for; each row sums to how much its face counts."""
        split = self._dataset.training
        targets = soft_targets(split, self._recipe.targets)
        settings = self._recipe.distillation
        if settings is not None:
            taught = teach(split.images, settings, self._lesson)
            targets += np.float32(settings.share) * (taught - targets)
        weights = class_weights(split.labels, self._recipe.targets.class_weighting)
        self._targets = weights[:, np.newaxis] * targets

    def _batches(self, epoch: int) -> Batches:
        return epoch_batches(self._dataset.training.images, self._targets, self._recipe, epoch)

    def _validate(self, model: keras.Model) -> float:
        split = self._dataset.validation
        answers = keras_logits(model, split.images).argmax(axis=1)
        return float((answers == split.labels).mean())


def cross_entropy(targets: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Cross-entropy of [B, 7] and [B, 7], a sum a face: what a target's row sums to weighs it.

    TensorFlow's own, and so Keras', has the gradient of rows that sum to 1, whatever they do.
    """
    return -keras.ops.sum(targets * keras.ops.log_softmax(logits), axis=-1)
