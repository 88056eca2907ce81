from pathlib import Path

import numpy as np
import pytest

from edge_daemon.inference.ensemble import log_softmax
from emotion_trainer.applicants import TrainedModel
from emotion_trainer.bundling import make_bundle
from emotion_trainer.data import Dataset, Split
from emotion_trainer.distillation import require_teachers, teach
from emotion_trainer.errors import RecipeError, TrainingError
from emotion_trainer.export import export_int8
from emotion_trainer.predictions import keras_logits, probabilities_of
from emotion_trainer.recipe import Distillation, Recipe
from emotion_trainer.runs import Run
from emotion_trainer.training import Trainer


def trained_for(epochs: int, recipe: Recipe) -> Recipe:
    longer = recipe.optimisation.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"optimisation": longer})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, recipe: Recipe) -> Run:
    run = Run(tmp_path_factory.mktemp("teacher"))
    assert Trainer(trained_for(8, recipe), dataset, run).run().accuracy > 0.9
    return run


def taught_by(*teachers: Path, temperature: float = 1.0, share: float = 0.5) -> Distillation:
    return Distillation(teachers=teachers, temperature=temperature, share=share)


def test_is_the_mean_over_a_face_and_its_mirror_image(
    teacher: Run, tmp_path: Path, dataset: Dataset
) -> None:
    faces = dataset.training.images[:20]
    taught = teach(faces, taught_by(teacher.folder), tmp_path / "lesson.npy")
    model = teacher.best_model()
    both = [log_softmax(keras_logits(model, view)) for view in (faces, faces[:, :, ::-1])]
    np.testing.assert_allclose(taught, np.exp(log_softmax(np.mean(both, axis=0))), atol=1e-4)
    mirrored = teach(faces[:, :, ::-1], taught_by(teacher.folder), tmp_path / "mirrored.npy")
    np.testing.assert_allclose(taught, mirrored, atol=1e-4)


def test_heat_softens(teacher: Run, tmp_path: Path, dataset: Dataset) -> None:
    faces, lesson = dataset.training.images[:20], tmp_path / "lesson.npy"
    cool, hot = (teach(faces, taught_by(teacher.folder, temperature=t), lesson) for t in (1, 4))
    assert hot.sum(axis=1) == pytest.approx(1.0)
    assert (hot.max(axis=1) < cool.max(axis=1)).all()


def test_a_bundle_can_teach(teacher: Run, tmp_path: Path, dataset: Dataset) -> None:
    # So small a network may lose more to int8 than `export_run` lets pass; here it does not matter.
    export_int8(teacher.best_model(), dataset.training, seed=0, path=teacher.exported())
    make_bundle([TrainedModel(teacher)], dataset, tmp_path / "bundle", lambda *_: "")
    faces = dataset.training.images[:20]
    taught = teach(faces, taught_by(tmp_path / "bundle"), tmp_path / "lesson.npy")
    answers = [probabilities_of(tmp_path / "bundle", view) for view in (faces, faces[:, :, ::-1])]
    expected = np.exp(log_softmax(np.log(np.maximum(answers, 1e-7)).mean(axis=0)))
    np.testing.assert_allclose(taught, expected, atol=1e-4)


def test_a_student_learns_what_no_label_tells(
    teacher: Run, tmp_path: Path, dataset: Dataset, recipe: Recipe
) -> None:
    """Where all faces are called angry, what is right can only come from the teacher."""
    learnt = dataset.training
    unlabelled = Split(learnt.images, np.zeros_like(learnt.labels), np.zeros_like(learnt.votes))
    taught = taught_by(teacher.folder, share=1.0)
    student = trained_for(8, recipe).model_copy(update={"distillation": taught})
    blind = Dataset(training=unlabelled, validation=dataset.validation)
    assert Trainer(student, blind, Run(tmp_path)).run().accuracy > 0.5


def test_goes_on_with_the_lesson_it_began_with(
    teacher: Run, tmp_path: Path, dataset: Dataset
) -> None:
    faces, lesson = dataset.training.images[:20], tmp_path / "lesson.npy"
    first = teach(faces, taught_by(teacher.folder), lesson)
    np.testing.assert_array_equal(teach(faces, taught_by(tmp_path / "gone"), lesson), first)


def test_wants_teachers_that_are_finished(teacher: Run, tmp_path: Path, recipe: Recipe) -> None:
    def learning_from(folder: Path) -> Recipe:
        return recipe.model_copy(update={"distillation": taught_by(folder)})

    require_teachers(recipe)
    require_teachers(learning_from(teacher.folder))
    (tmp_path / "bundle.json").touch()
    require_teachers(learning_from(tmp_path))
    absent = tmp_path / "absent"
    require_teachers(learning_from(absent), to_come=[absent])
    with pytest.raises(RecipeError, match=r"tiny learns from .*/absent, which is not finished"):
        require_teachers(learning_from(absent))


def test_refuses_a_lesson_that_is_damaged_or_of_other_data(
    teacher: Run, tmp_path: Path, dataset: Dataset
) -> None:
    lesson = tmp_path / "lesson.npy"
    teach(dataset.training.images[:20], taught_by(teacher.folder), lesson)
    with pytest.raises(TrainingError, match="is of other data"):
        teach(dataset.training.images[:21], taught_by(teacher.folder), lesson)
    lesson.write_bytes(lesson.read_bytes()[:100])
    with pytest.raises(TrainingError, match="is damaged"):
        teach(dataset.training.images[:20], taught_by(teacher.folder), lesson)
