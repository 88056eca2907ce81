from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_split, subject_of, write_unlabelled
from numpy.typing import NDArray

from edge_daemon.inference.ensemble import log_softmax
from edge_daemon.records import EMOTIONS
from emotion_trainer.bundle.bundling import make_bundle
from emotion_trainer.bundle.candidates import TrainedModel
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset, Split
from emotion_trainer.errors import RecipeError, TrainingError
from emotion_trainer.export.int8 import export_int8
from emotion_trainer.models.predictions import keras_logits, probabilities_of
from emotion_trainer.recipe import Distillation, Recipe
from emotion_trainer.training.distillation import (
    distilled_targets,
    require_teachers,
    soft_labels_for,
    teach,
)
from emotion_trainer.training.runs import Run
from emotion_trainer.training.soft_labels import SoftLabels, average
from emotion_trainer.training.trainer import Trainer


def trained_for(epochs: int, recipe: Recipe) -> Recipe:
    longer = recipe.optimisation.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"optimisation": longer})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, recipe: Recipe) -> Run:
    run = Run(tmp_path_factory.mktemp("teacher"))
    assert Trainer(trained_for(8, recipe), dataset, run).run().score > 0.9
    return run


@pytest.fixture(scope="module")
def few(dataset: Dataset) -> Dataset:
    """A data set with 20 labelled and 10 unlabelled faces."""
    labelled = dataset.training
    training = Split(labelled.images[:20], labelled.labels[:20], labelled.votes[:20])
    return Dataset(training, dataset.validation, unlabelled=draw_split(10, seed=9).images)


def targets_of(labels: SoftLabels, dataset: Dataset, **settings: float) -> np.ndarray:
    labelled = np.eye(7, dtype=np.float32)[dataset.training.labels]
    distillation = Distillation(soft_labels=(Path("any.npz"),), **settings)
    return distilled_targets(labelled, labels, distillation)


def test_teach_averages_both_views(teacher: Run, few: Dataset) -> None:
    labels = teach([teacher.folder], few)
    model = teacher.best_model()
    for predictions, faces in (
        (labels.training, few.training.images),
        (labels.unlabelled, few.unlabelled),
    ):
        views = [log_softmax(keras_logits(model, view)) for view in (faces, faces[:, :, ::-1])]
        assert np.abs(views[0] - views[1]).max() > 0.1
        np.testing.assert_allclose(predictions, log_softmax(sum(views) / 2), atol=2e-2)


def test_distilled_targets_share_mixes_labels(teacher: Run, few: Dataset) -> None:
    labels = teach([teacher.folder], few)
    targets = targets_of(labels, few, share=0.25)
    assert targets.shape == (30, 7)
    truth = np.eye(7)[few.training.labels]
    expected = 0.75 * truth + 0.25 * np.exp(labels.training.astype(np.float32))
    np.testing.assert_allclose(targets[:20], expected, atol=2e-3)
    np.testing.assert_allclose(
        targets[20:], np.exp(labels.unlabelled.astype(np.float32)), atol=2e-3
    )


def test_distilled_targets_higher_temperature_is_softer(teacher: Run, few: Dataset) -> None:
    labels = teach([teacher.folder], few)
    cool, hot = (targets_of(labels, few, share=1.0, temperature=t) for t in (1.0, 4.0))
    assert hot.sum(axis=-1) == pytest.approx(1.0, abs=1e-5)
    assert (hot.max(axis=-1) < cool.max(axis=-1)).all()


def test_teach_bundle_uses_its_ensemble(teacher: Run, tmp_path: Path, few: Dataset) -> None:
    # A small network may lose more to int8 than `export_run` accepts; that is not tested here.
    export_int8(teacher.best_model(), few.training, seed=0, path=teacher.int8_path)
    make_bundle([TrainedModel(teacher)], few, tmp_path / "bundle", lambda *_: {})
    labels = teach([tmp_path / "bundle"], few)
    faces = few.training.images
    views = [probabilities_of(tmp_path / "bundle", view) for view in (faces, faces[:, :, ::-1])]
    expected = log_softmax(np.log(views).mean(axis=0))
    np.testing.assert_allclose(np.exp(labels.training), np.exp(expected), atol=5e-3)
    assert labels.header.teachers[0].name.startswith("tiny-")


def test_soft_labels_for_averages_files_and_teachers(
    teacher: Run, tmp_path: Path, few: Dataset
) -> None:
    flat = np.full((20, 7), -np.log(7.0)), np.full((10, 7), -np.log(7.0))
    taught = teach([teacher.folder], few)
    (known,) = taught.header.teachers
    other = known.model_copy(update={"name": "other"})
    SoftLabels.of(few, (other, known), *flat).save(tmp_path / "flat.npz")
    settings = Distillation(teachers=(teacher.folder,), soft_labels=(tmp_path / "flat.npz",))
    mixed = soft_labels_for(few, settings, tmp_path / "kept.npz")
    expected = log_softmax(taught.training.astype(np.float32) / 2)
    np.testing.assert_allclose(mixed.training, expected, atol=2e-2)
    assert mixed.header.teachers == (other, known)


def test_average_keeps_unlabelled_faces_that_all_have(few: Dataset) -> None:
    rows = [few.unlabelled, few.unlabelled[:5], few.unlabelled[:0]]
    parts = [
        SoftLabels.of(
            replace(few, unlabelled=faces), (), np.zeros((20, 7)), np.zeros((len(faces), 7))
        )
        for faces in rows
    ]
    for others in parts[1:]:
        mixed = average([parts[0], others])
        assert (len(mixed.unlabelled), mixed.header.unlabelled_sha256) == (0, None)
    assert len(average([parts[0], parts[0]]).unlabelled) == 10


def test_soft_labels_for_resumed_training_keeps_first_labels(
    teacher: Run, tmp_path: Path, few: Dataset
) -> None:
    kept = tmp_path / "kept.npz"
    first = soft_labels_for(few, Distillation(teachers=(teacher.folder,)), kept)
    second = soft_labels_for(few, Distillation(teachers=(tmp_path / "gone",)), kept)
    np.testing.assert_array_equal(first.training, second.training)
    assert first.header == second.header


@pytest.mark.parametrize("limit", [None, 6])
@pytest.mark.parametrize("changed", ["training", "unlabelled"])
def test_soft_labels_for_other_faces_are_refused(
    changed: str, limit: int | None, teacher: Run, tmp_path: Path, few: Dataset
) -> None:
    path = tmp_path / "labels.npz"
    teach([teacher.folder], few).save(path)
    if changed == "training":
        reordered = Split(few.training.images[::-1], few.training.labels, few.training.votes)
        other = replace(few, training=reordered)
    else:
        other = replace(few, unlabelled=few.unlabelled[::-1])
    if limit is not None:
        other = other.limited(limit)
    settings = Distillation(soft_labels=(path,))
    with pytest.raises(TrainingError, match=rf"labels\.npz: .*\b{changed} faces"):
        soft_labels_for(other, settings, tmp_path / "kept.npz")


def test_soft_labels_for_limited_faces_are_those_of_the_file(tmp_path: Path, few: Dataset) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "labels.npz"
    rows = [log_softmax(rng.normal(size=(n, 7)).astype(np.float32)) for n in (20, 10)]
    SoftLabels.of(few, (), *rows).save(path)
    trial = few.limited(6)
    labels = soft_labels_for(trial, Distillation(soft_labels=(path,)), tmp_path / "kept.npz")
    for images, found, faces, written in (
        (trial.training.images, labels.training, few.training.images, rows[0]),
        (trial.unlabelled, labels.unlabelled, few.unlabelled, rows[1]),
    ):
        assert len(images) == len(found) == 6
        places = [int(np.flatnonzero((faces == image).all(axis=(1, 2)))[0]) for image in images]
        np.testing.assert_allclose(found, written[places], atol=5e-3)


def train_student(
    teacher: Run, place: Path, folder: Path, unlabelled: NDArray[np.uint8]
) -> tuple[list[str], Run]:
    """The command that trains on a file of the teacher's soft labels, which it writes; its run."""
    write_unlabelled(unlabelled, folder / "more")
    data = ["--data", str(place / "sheets"), "--unlabelled", str(folder / "more")]
    labels, recipe = folder / "labels.npz", folder / "student.toml"
    assert main(["teach", str(teacher.folder), *data, "--out", str(labels)]) == 0
    settings = f'[distillation]\nsoft_labels = ["{labels}"]\nshare = 1.0\n'
    recipe.write_text((place / "tiny.toml").read_text() + settings)
    run = Run(folder / "run")
    return ["train", str(recipe), *data, "--run", str(run.folder)], run


def test_train_limit_uses_soft_labels_of_all_faces(
    teacher: Run, tmp_path: Path, place: Path
) -> None:
    words, run = train_student(teacher, place, tmp_path, draw_split(60, seed=8).images)
    for _ in range(2):  # the second one finds the training finished
        assert main([*words, "--limit", "40", "--epochs", "1"]) == 0
    kept = SoftLabels.load(run.soft_labels)
    assert (len(kept.training), len(kept.unlabelled)) == (40, 40)
    assert run.record().training_faces == 40
    assert kept.header.unlabelled_sha256 == run.record().unlabelled_fingerprint


def test_train_soft_labels_of_other_faces_leaves_no_run(
    teacher: Run, tmp_path: Path, few: Dataset, dataset: Dataset, recipe: Recipe
) -> None:
    teach([teacher.folder], few).save(tmp_path / "labels.npz")
    settings = Distillation(soft_labels=(tmp_path / "labels.npz",))
    student = recipe.model_copy(update={"distillation": settings})
    with pytest.raises(TrainingError, match=r"labels\.npz: .*\btraining faces"):
        Trainer(student, dataset, Run(tmp_path / "run")).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"PK\x03\x04 cut off", b""])
def test_soft_labels_load_damaged_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "labels.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"labels\.npz: "):
        SoftLabels.load(path)


@pytest.mark.parametrize("change", ["emotions", "length", "nan"])
def test_soft_labels_that_do_not_fit_their_faces_are_refused(
    tmp_path: Path, few: Dataset, change: str
) -> None:
    logs = (np.zeros((len(faces), 7)) for faces in (few.training, few.unlabelled))
    labels = SoftLabels.of(few, (), *logs)
    match change:
        case "emotions":
            header = labels.header.model_copy(update={"emotions": EMOTIONS[::-1]})
            labels = replace(labels, header=header)
        case "length":
            labels = replace(labels, training=labels.training[1:])
        case _:
            labels.training[0, 0] = np.nan
    path = tmp_path / "soft.npz"
    labels.save(path)
    with pytest.raises(TrainingError, match=r"soft\.npz"):
        SoftLabels.load(path).restricted_to(few, path)


def test_train_labels_wrong_learns_from_teacher(
    teacher: Run, tmp_path: Path, dataset: Dataset, recipe: Recipe
) -> None:
    """Where all faces are labelled angry, the truth can only come from the teacher."""
    labelled = dataset.training
    wrong = Split(labelled.images, np.zeros_like(labelled.labels), np.zeros_like(labelled.votes))
    distillation = Distillation(teachers=(teacher.folder,), share=1.0)
    student = trained_for(8, recipe).model_copy(update={"distillation": distillation})
    blind = Dataset(training=wrong, validation=dataset.validation)
    assert Trainer(student, blind, Run(tmp_path)).run().score > 0.5


def test_train_unlabelled_faces_teach_the_student(
    teacher: Run, tmp_path: Path, dataset: Dataset, place: Path
) -> None:
    """Seven labelled faces are too few to learn from; the unlabelled ones teach it."""
    words, run = train_student(teacher, place, tmp_path, dataset.training.images)
    assert main(words) == 0
    assert run.record().unlabelled_fingerprint is not None
    assert SoftLabels.load(run.soft_labels).unlabelled.shape == (448, 7)


def test_train_unlabelled_without_distillation_exits_2(
    tmp_path: Path, dataset: Dataset, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_unlabelled(dataset.training.images[:9], tmp_path / "more")
    data = ["--data", str(place / "sheets"), "--unlabelled", str(tmp_path / "more")]
    arguments = ["train", str(place / "tiny.toml"), *data, "--run", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert subject_of(capsys.readouterr().err) == "tiny"


def test_require_teachers_missing_or_unfinished_is_refused(
    teacher: Run, tmp_path: Path, recipe: Recipe
) -> None:
    def learning_from(folder: Path) -> Recipe:
        return recipe.model_copy(update={"distillation": Distillation(teachers=(folder,))})

    require_teachers(recipe)
    require_teachers(learning_from(teacher.folder))
    (tmp_path / "bundle.json").touch()
    require_teachers(learning_from(tmp_path))
    absent = tmp_path / "absent"
    require_teachers(learning_from(absent), pending=[absent])
    with pytest.raises(RecipeError, match=r"distillation.teachers: .*/absent"):
        require_teachers(learning_from(absent))
    files = Distillation(soft_labels=(tmp_path / "absent.npz",))
    with pytest.raises(RecipeError, match=r"distillation.soft_labels: .*/absent.npz"):
        require_teachers(recipe.model_copy(update={"distillation": files}))


def test_distillation_without_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="teachers or soft_labels"):
        Distillation()
