"""Distillation: a small network also learns from what larger ones say of the training pictures.

A label names one emotion; the teachers' distribution tells which others the face resembles
(Hinton et al. 2015). It is mixed into the soft targets, so that one cross-entropy serves both.

Teachers are asked once about each picture and its mirror image, not about every augmented view.
Answers to the views would make better students where training is long (Beyer et al. 2022), but
they are dear: a step costs a network about three times its own MMAC, so for a student of 10 MMAC
teachers of 100 MMAC would make it four times as long. Half of the views are mirrored, and a face
and its mirror image show the same emotion, so the mean of both answers is the target for either.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.errors import RecipeError, TrainingError
from emotion_trainer.predictions import Faces, Scores, is_bundle, probabilities_of
from emotion_trainer.recipe import Distillation, Recipe
from emotion_trainer.runs import Run

SMALLEST: Final = np.float32(1e-7)


def require_teachers(recipe: Recipe, to_come: Collection[Path] = ()) -> None:
    """Refuse a recipe that would learn from what is not there or half trained.

    Args:
        recipe: a recipe, with teachers or without.
        to_come: resolved folders of runs that will be finished by then.

    Raises:
        RecipeError: a teacher is neither finished nor to come.
    """
    for teacher in recipe.teachers:
        if teacher.resolve() not in to_come and not _is_finished(teacher):
            raise RecipeError(
                f"{recipe.name} learns from {teacher}, which is not finished; train that first"
            )


def teach(faces: Faces, settings: Distillation, lesson: Path) -> NDArray[np.float32]:
    """The teachers' distributions for the training pictures, float32 [N, 7], rows sum to 1.

    Their mean log-probabilities are kept in `lesson`, so that a training that goes on learns from
    what it began with, though a teacher may have been trained anew.

    Raises:
        TrainingError, BundleError: a teacher or the lesson is missing or damaged.
    """
    if not lesson.exists():
        print(f"asking {len(settings.teachers)} teachers about {len(faces)} faces", flush=True)
        _keep(_mean_log_probabilities(faces, settings.teachers), lesson)
    taught = _recall(lesson, len(faces))
    return np.exp(log_softmax(taught / np.float32(settings.temperature)))


def _mean_log_probabilities(faces: Faces, teachers: tuple[Path, ...]) -> Scores:
    views = (faces, faces[:, :, ::-1])
    answers = [probabilities_of(_model_of(teacher), view) for teacher in teachers for view in views]
    mean: Scores = np.mean([np.log(np.maximum(a, SMALLEST)) for a in answers], axis=0)
    return mean


def _is_finished(teacher: Path) -> bool:
    return is_bundle(teacher) or Run(teacher).is_finished


def _model_of(teacher: Path) -> Path:
    """A bundle's folder, or the best weights in a run's folder."""
    return teacher if is_bundle(teacher) else Run(teacher).best


def _keep(taught: Scores, lesson: Path) -> None:
    unfinished = lesson.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, taught)
    unfinished.replace(lesson)


def _recall(lesson: Path, faces: int) -> Scores:
    try:
        taught: Scores = np.load(lesson, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{lesson}: is damaged: {error}; remove it to ask again") from error
    if len(taught) != faces:
        raise TrainingError(f"{lesson}: is of other data; remove it to ask again")
    return taught
