"""Distillation: a small network also learns the predictions of larger ones for the training faces.

A label is one emotion; a teacher's distribution shows which others the face resembles (Hinton et
al. 2015). It is mixed into the soft targets, so one cross-entropy is the loss of both. The targets
of unlabelled faces are the teachers' distribution alone.

Teachers predict each face once, as the mean of their predictions for it and for its mirror image.
They do not predict every augmented view (consistent teaching, Beyer et al. 2022): a training step
costs about three times the network's MMAC, so teachers of 100 MMAC would make a step of a student
of 10 MMAC four times as long, and a trial with six views of each face raised no accuracy.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.inference.ensemble import log_softmax
from edge_daemon.records import EMOTIONS
from emotion_trainer.data import Dataset
from emotion_trainer.errors import RecipeError
from emotion_trainer.models.predictions import Faces, is_bundle, probabilities_of
from emotion_trainer.recipe import Distillation, Recipe
from emotion_trainer.training.origins import origins_of
from emotion_trainer.training.runs import Run
from emotion_trainer.training.soft_labels import SoftLabels, average

MIN_PROBABILITY: Final = np.float32(1e-7)


def require_teachers(recipe: Recipe, pending: Collection[Path] = ()) -> None:
    """Refuse a recipe whose teachers or soft labels are missing or unfinished.

    Args:
        recipe: a recipe, with teachers or without.
        pending: resolved folders of runs that will be finished by then.

    Raises:
        RecipeError: a teacher is neither finished nor pending, or a file is missing.
    """
    for teacher in recipe.teachers:
        if teacher.resolve() not in pending and not _is_finished(teacher):
            raise RecipeError(
                f"distillation.teachers: {teacher} is not finished; train it before {recipe.name}"
            )
    for path in recipe.distillation.soft_labels if recipe.distillation else ():
        if not path.is_file():
            raise RecipeError(
                f"distillation.soft_labels: {path}: no such file; write it with "
                "`emotion-trainer teach`"
            )


def require_soft_labels(recipe: Recipe, dataset: Dataset, kept: Path) -> None:
    """Refuse files of soft labels that a training on these faces could not use.

    Args:
        recipe: a recipe, with soft labels or without.
        dataset: what it is trained on.
        kept: the run's own soft labels, which replace the recipe's files where they exist.

    Raises:
        TrainingError: a file is missing, damaged, or of other faces.
    """
    if recipe.distillation is None:
        return
    for path in (kept,) if kept.exists() else recipe.distillation.soft_labels:
        SoftLabels.load(path).restricted_to(dataset, path)


def teach(teachers: Collection[Path], dataset: Dataset) -> SoftLabels:
    """Predict the training and the unlabelled faces of a data set with teachers.

    Args:
        teachers: folders of finished runs or of bundles, or `.keras` and `.tflite` files.
        dataset: the faces to predict.

    Raises:
        TrainingError, BundleError, ExportError: a teacher is missing or damaged.
    """
    predictions = []
    for teacher in teachers:
        faces = len(dataset.training) + len(dataset.unlabelled)
        print(f"predicting {faces} faces with {teacher}", flush=True)
        model = _model_of(teacher)
        predictions.append(
            SoftLabels.of(
                dataset,
                origins_of(teacher),
                _log_probabilities(model, dataset.training.images),
                _log_probabilities(model, dataset.unlabelled),
            )
        )
    return average(predictions)


def soft_labels_for(dataset: Dataset, settings: Distillation, kept: Path) -> SoftLabels:
    """The mean of a recipe's soft label files and of its teachers' predictions.

    It is stored in the file `kept`, so a resumed training has the targets that it began with, even
    if a teacher was trained again.

    Raises:
        TrainingError, BundleError: a teacher or a file is missing, damaged, or of other faces.
    """
    if kept.exists():
        return SoftLabels.load(kept).restricted_to(dataset, kept)
    files = [SoftLabels.load(path).restricted_to(dataset, path) for path in settings.soft_labels]
    labels = average(files + [teach([teacher], dataset) for teacher in settings.teachers])
    labels.save(kept)
    return labels


def distilled_targets(
    labelled: NDArray[np.float32], labels: SoftLabels, settings: Distillation
) -> NDArray[np.float32]:
    """Mix soft labels into the labelled faces' targets, and append the unlabelled faces' targets.

    Args:
        labelled: float32 [N, 7], rows sum to 1.
        labels: the teachers' predictions for the N labelled and the M unlabelled faces.
        settings: the share of the predictions, and their temperature.

    Returns:
        float32 [N + M, 7].
    """
    mixed = labelled + np.float32(settings.share) * (
        _softened(labels.training, settings.temperature) - labelled
    )
    return np.concatenate([mixed, _softened(labels.unlabelled, settings.temperature)])


def _softened(log_probabilities: NDArray[np.float16], temperature: float) -> NDArray[np.float32]:
    softened: NDArray[np.float32] = np.exp(
        log_softmax(log_probabilities.astype(np.float32) / np.float32(temperature))
    )
    return softened


def _log_probabilities(model: Path, faces: Faces) -> NDArray[np.float32]:
    """Log-probabilities of faces, float32 [N, 7]: the mean with those of their mirror images."""
    if not len(faces):
        return np.empty((0, len(EMOTIONS)), np.float32)
    views = [probabilities_of(model, view) for view in (faces, faces[:, :, ::-1])]
    return log_softmax(np.log(np.maximum(views, MIN_PROBABILITY)).mean(axis=0))


def _is_finished(teacher: Path) -> bool:
    return is_bundle(teacher) or Run(teacher).is_finished


def _model_of(teacher: Path) -> Path:
    """A bundle's folder, a model's file, or the best weights in a run's folder."""
    return teacher if is_bundle(teacher) or teacher.is_file() else Run(teacher).best
