import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import subject_of, write_sheets
from numpy.typing import NDArray

from emotion_trainer.cli import main
from emotion_trainer.data import Dataset, Split
from emotion_trainer.errors import RecipeError, TrainingError
from emotion_trainer.export.int8 import export_run
from emotion_trainer.models.predictions import keras_logits, tflite_logits
from emotion_trainer.recipe import Distillation, Recipe
from emotion_trainer.training import checkpoint as checkpoints
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.progress import Progress
from emotion_trainer.training.provenance import RunRecord, record_of
from emotion_trainer.training.runs import Run
from emotion_trainer.training.stopping import best_of
from emotion_trainer.training.trainer import Trainer, cross_entropy

TOML = """
seed = 3
[model]
family = "resnet"
stem = 8
stages = [[8, 1], [16, 1]]
dropout = 0.1
[targets]
votes_share = 0.5
class_weighting = 0.5
[augmentation]
shift = 0.02
mixup = 0.1
[optimisation]
epochs = 2
batch = 32
learning_rate = 0.1
ema_momentum = 0.9
"""
TRAIN = "import sys; from emotion_trainer.cli import main; sys.exit(main(sys.argv[1:]))"
TRAIN_AND_DIE_IN_EPOCH_2 = """
import os, signal, sys
from emotion_trainer.cli import main
from emotion_trainer.training.progress import Progress
def step(self, epoch, step, loss):
    if (epoch, step) == (2, 5):
        os.kill(os.getpid(), signal.SIGKILL)
Progress.step = step
main(sys.argv[1:])
"""
TRAIN_AND_CONVERT = """
import sys
from pathlib import Path
from emotion_trainer.cli import main
from emotion_trainer.data import open_dataset
from emotion_trainer.export.int8 import export_int8
from emotion_trainer.training.runs import Run
_, _, _, data, _, run = arguments = sys.argv[1:]
assert main(arguments) == 0
training = open_dataset(Path(data)).training
export_int8(Run(Path(run)).best_model(), training, 0, Path(run) / "int8.tflite")
"""


def run_apart(code: str, arguments: list[str], backend: str = "tensorflow") -> int:
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, check=False, timeout=300).returncode


def with_settings(recipe: Recipe, section: str, **settings: object) -> Recipe:
    changed = getattr(recipe, section).model_copy(update=settings)
    return recipe.model_copy(update={section: changed})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """A folder with data, a recipe, and a run that was killed in its second epoch."""
    place = tmp_path_factory.mktemp("place")
    write_sheets(dataset, place / "sheets")
    (place / "tiny.toml").write_text(TOML)
    assert run_apart(TRAIN_AND_DIE_IN_EPOCH_2, train(place, place / "killed")) == -signal.SIGKILL
    assert [epoch.number for epoch in Run(place / "killed").history] == [1]
    return place


def train(place: Path, run: Path, recipe: Path | None = None) -> list[str]:
    data = ["--data", str(place / "sheets"), "--run", str(run)]
    return ["train", str(recipe or place / "tiny.toml"), *data]


def killed(place: Path, folder: Path) -> Run:
    return Run(Path(shutil.copytree(place / "killed", folder)))


def test_training_killed_resumes_as_an_unbroken_one(place: Path, tmp_path: Path) -> None:
    broken, unbroken = killed(place, tmp_path / "broken"), Run(tmp_path / "unbroken")
    for run in (broken, unbroken):
        assert main(train(place, run.folder)) == 0
    found, expected = (checkpoints.load(run.checkpoint) for run in (broken, unbroken))
    assert [epoch.number for epoch in found.history] == [1, 2]
    for a, b in zip(found.history, expected.history, strict=True):
        assert a.score == pytest.approx(b.score, abs=0.02)
    for a, b in zip(found.average, expected.average, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_training_in_a_folder_in_use_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = killed(place, tmp_path / "run")
    with run.reserved():
        assert main(train(place, run.folder)) == 1
    assert capsys.readouterr().err.startswith(f"emotion-trainer: {run.folder}: in use ")
    assert len(run.history) == 1


def test_training_by_torch_killed_resumes_as_an_unbroken_one(place: Path, tmp_path: Path) -> None:
    """With much dropout, which draws from PyTorch's generator."""
    if find_spec("torch") is None:
        pytest.skip("torch is not installed")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TOML.replace("dropout = 0.1", "dropout = 0.5"))
    broken, unbroken = Run(tmp_path / "broken"), Run(tmp_path / "unbroken")
    commands = [(TRAIN_AND_DIE_IN_EPOCH_2, broken), (TRAIN, broken), (TRAIN, unbroken)]
    codes = [run_apart(code, train(place, run.folder, recipe), "torch") for code, run in commands]
    assert codes == [-signal.SIGKILL, 0, 0]
    found, expected = (checkpoints.load(run.checkpoint) for run in (broken, unbroken))
    assert [epoch.number for epoch in found.history] == [1, 2]
    for a, b in zip(found.average, expected.average, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_resumes_with_another_backend(
    backend: str, place: Path, tmp_path: Path, dataset: Dataset
) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run = killed(place, tmp_path / "run")
    assert run_apart(TRAIN_AND_CONVERT, train(place, run.folder), backend) == 0

    faces, labels = dataset.validation.images, dataset.validation.labels
    predictions = keras_logits(run.best_model(), faces)
    accuracy = (predictions.argmax(axis=1) == labels).mean()
    assert [epoch.number for epoch in run.history] == [1, 2]
    assert accuracy == pytest.approx(best_of(run.history).score, abs=0.01)
    in_integers = tflite_logits(run.folder / "int8.tflite", faces)
    assert np.abs(in_integers - predictions).mean() < 0.1 * np.abs(predictions).mean()


def test_resume_with_another_recipe_is_refused(
    tmp_path: Path, dataset: Dataset, recipe: Recipe
) -> None:
    run = Run(tmp_path)
    Trainer(with_settings(recipe, "optimisation", epochs=1), dataset, run).run()
    with pytest.raises(TrainingError, match=RunRecord.DIFFERENCE):
        Trainer(recipe, dataset, run).run()


def test_record_without_newer_settings_is_the_same_training(
    tmp_path: Path, dataset: Dataset, recipe: Recipe
) -> None:
    record = record_of(recipe, dataset)
    added = {
        "optimisation": {"patience", "precision"},
        "augmentation": {"mixup"},
        "targets": {"class_weighting"},
        "bundled": True,
    }
    old = record.model_dump_json(exclude={"recipe": added})
    assert RunRecord.model_validate_json(old).is_same_training(record)
    (tmp_path / "run.json").write_text(old)
    Run(tmp_path).checkpoint.touch()
    Run(tmp_path).begin(record)
    assert (tmp_path / "run.json").read_text() == old


def test_whether_it_is_bundled_may_change(tmp_path: Path, dataset: Dataset, recipe: Recipe) -> None:
    run, record = Run(tmp_path), record_of(recipe, dataset).model_copy(update={"commit": "first"})
    run.begin(record)
    run.checkpoint.touch()
    teacher = recipe.model_copy(update={"bundled": False})
    run.begin(record_of(teacher, dataset))
    assert not run.record().recipe.bundled
    assert run.record().commit == "first"


def test_resume_checkpoint_of_another_network_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = killed(place, tmp_path / "run")
    state = checkpoints.load(run.checkpoint)
    state.variables[0] = state.variables[0][..., :4]
    checkpoints.save(state, run.checkpoint)
    assert main(train(place, run.folder)) == 1
    assert subject_of(capsys.readouterr().err) == str(run.checkpoint)


def test_patience_stops_training_for_good(tmp_path: Path, dataset: Dataset, recipe: Recipe) -> None:
    patient = with_settings(recipe, "optimisation", epochs=40, patience=2)
    run = Run(tmp_path)
    best = Trainer(patient, dataset, run).run()
    assert len(run.history) == best.number + 2 < 40
    assert run.is_finished

    assert Trainer(patient, dataset, run).run() == best
    assert len(run.history) == best.number + 2


def test_training_in_16_bits_stores_a_model_in_32(
    tmp_path: Path, dataset: Dataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = with_settings(recipe, "optimisation", precision="mixed_bfloat16", epochs=6)
    run = Run(tmp_path)

    def stop(_self: Progress, done: Epoch, _best: Epoch) -> None:
        if done.number == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "epoch", stop)
    begun = Trainer(mixed, dataset, run)
    assert "mixed_bfloat16 by tensorflow" in begun.summary()
    with pytest.raises(KeyboardInterrupt):
        begun.run()
    monkeypatch.undo()
    assert Trainer(mixed, dataset, run).run().score > 0.5
    assert len(run.history) == 6

    model = run.best_model()
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    # After so few steps many faces are at the margin. Other weights would agree on one in seven.
    assert export_run(run, dataset).same_prediction > 0.7


def test_cross_entropy_weighs_a_face_by_its_targets_sum() -> None:
    """The gradient too: as if the face stood so many times in the batch."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 7)).astype(np.float32)
    targets = rng.dirichlet(np.ones(7), 2).astype(np.float32)
    weighted, once = keras.Variable(logits), keras.Variable(logits)
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.reduce_sum(cross_entropy(targets * [[3.0], [1.0]], weighted.value))
        reference = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
        repeated = reference(targets[[0, 0, 0, 1]], tf.gather(once.value, [0, 0, 0, 1]))
    assert float(loss) == pytest.approx(float(repeated), rel=1e-5)
    found = tape.gradient(loss, weighted.value)
    expected = tf.convert_to_tensor(tape.gradient(repeated, once.value))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_targets_sum_to_what_their_labels_count(
    tmp_path: Path, dataset: Dataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[NDArray[np.float32]] = []

    def look(_faces: object, targets: NDArray[np.float32], *_: object) -> None:
        seen.append(targets)
        raise KeyboardInterrupt

    monkeypatch.setattr("emotion_trainer.training.trainer.epoch_batches", look)
    few = Split(*(array[:32] for array in vars(dataset.training).values()))
    balanced = with_settings(recipe, "targets", class_weighting=1.0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(balanced, Dataset(few, dataset.validation), Run(tmp_path)).run()
    # 32 faces of seven labels: five of the first four, four of the others.
    count = np.bincount(few.labels)[few.labels]
    np.testing.assert_allclose(seen[0].sum(axis=1), 32 / 7 / count, rtol=1e-5)


def test_unfinished_teacher_is_refused_before_training(
    place: Path, tmp_path: Path, dataset: Dataset, recipe: Recipe
) -> None:
    taught = Distillation(teachers=(place / "killed",))
    student = recipe.model_copy(update={"distillation": taught})
    with pytest.raises(RecipeError, match=r"^distillation.teachers: .*/killed"):
        Trainer(student, dataset, Run(tmp_path / "run")).run()
    assert not (tmp_path / "run").exists()


def test_training_with_a_diverging_loss_fails(
    tmp_path: Path, dataset: Dataset, recipe: Recipe
) -> None:
    wild = with_settings(recipe, "optimisation", learning_rate=1e30, warmup_epochs=0.0)
    with pytest.raises(TrainingError, match=r"epoch 1\b"):
        Trainer(wild, dataset, Run(tmp_path)).run()


def test_load_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"PK\x03\x04 cut off")
    for read in (checkpoints.load, checkpoints.load_history):
        with pytest.raises(TrainingError, match=r"checkpoint\.npz: "):
            read(path)
