"""A tiny network on synthetic material: trained, stopped, resumed, exported, run by the daemon."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detector.material import crops, write_photos

pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)

import torch

from edge_daemon._lib.files import sha256_of
from edge_daemon.detection.bundled import PATCH_SIDE, BundledDetector, read_manifest
from emotion_trainer.cli import main
from emotion_trainer.detector import export, training, verifier_training
from emotion_trainer.detector.candidates import Candidates, collect
from emotion_trainer.detector.crops import save_crops
from emotion_trainer.detector.data import DetectorData, load_data
from emotion_trainer.detector.learner import load_checkpoint
from emotion_trainer.detector.network_torch import VerifierNetwork
from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.detector.runs import DetectorRecord, DetectorRun
from emotion_trainer.detector.training import DetectorTrainer
from emotion_trainer.detector.verifier_training import VerifierTrainer
from emotion_trainer.errors import RecipeError, TrainingError
from emotion_trainer.recipe import read_recipe_as

torch.set_num_threads(1)  # threads that wait for each other are slow on a busy machine

RECIPE = """
seed = 3

[network]
stem = 8
stages = [[16, 1], [24, 1], [32, 1], [32, 1]]
kernels = [3, 3, 3, 3]
pyramid = 24

[scenes]
side = 96
min_face = 14
hidden = 0
tilt = 10
epoch = 320

[optimisation]
method = "adamw"
epochs = 6
batch = 16
learning_rate = 8e-3
warmup_epochs = 0.5
weight_decay = 1e-3
ema_momentum = 0.9

[verifier]
stem = 8
stages = [[16, 1], [24, 1], [24, 1]]
geometry = 4
epoch = 1600

[verifier.optimisation]
epochs = 3
batch = 32
learning_rate = 1e-2
ema_momentum = 0.9
"""
EPOCHS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("detector")
    write_photos(made / "photos")
    save_crops(crops(), made / "crops.npz")
    (made / "tiny.toml").write_text(RECIPE)
    return made


@pytest.fixture(scope="module")
def data(folder: Path) -> DetectorData:
    return load_data([folder / "photos"], folder / "crops.npz")


@pytest.fixture(scope="module")
def words(folder: Path) -> list[str]:
    return ["--photos", str(folder / "photos"), "--crops", str(folder / "crops.npz")]


@pytest.fixture(scope="module")
def trained(folder: Path, words: list[str]) -> Path:
    run = folder / "work"
    assert main(["detector", "train", str(folder / "tiny.toml"), "--run", str(run), *words]) == 0
    return run


def test_training_learns_to_find_synthetic_faces(trained: Path) -> None:
    state = load_checkpoint(DetectorRun(trained).checkpoint)
    assert len(state.history) == EPOCHS
    assert state.history[-1].loss < 0.7 * state.history[0].loss
    assert max(epoch.score for epoch in state.history) > 0.2


def test_resumed_training_ends_as_an_unbroken_one(
    trained: Path, data: DetectorData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = DetectorRun(trained).record().recipe
    stopped = DetectorRun(tmp_path / "stopped")
    real = training.epoch_batches

    def broken(maker: object, mined: object, seed: tuple[int, int], *rest: int) -> object:
        if seed[1] == 3:
            raise KeyboardInterrupt
        return real(maker, mined, seed, *rest)

    monkeypatch.setattr(training, "epoch_batches", broken)
    with pytest.raises(KeyboardInterrupt):
        DetectorTrainer(recipe, data, stopped).run()
    assert len(load_checkpoint(stopped.checkpoint).history) == 2
    monkeypatch.undo()
    DetectorTrainer(recipe, data, stopped).run()
    resumed, unbroken = (load_checkpoint(r.checkpoint) for r in (stopped, DetectorRun(trained)))
    for name, value in unbroken.average.items():
        torch.testing.assert_close(resumed.average[name], value, rtol=1e-3, atol=1e-4)


def test_damaged_checkpoint_is_an_error(trained: Path, data: DetectorData, tmp_path: Path) -> None:
    run = DetectorRun(Path(shutil.copytree(trained, tmp_path / "run")))
    run.checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="checkpoint"):
        DetectorTrainer(run.record().recipe, data, run).run()


def test_training_into_a_run_of_another_recipe_is_an_error(
    trained: Path, data: DetectorData
) -> None:
    recipe = DetectorRun(trained).record().recipe.model_copy(update={"seed": 4})
    with pytest.raises(TrainingError, match=DetectorRecord.DIFFERENCE):
        DetectorTrainer(recipe, data, DetectorRun(trained)).run()


def test_run_records_the_weights_that_it_started_from(
    trained: Path, data: DetectorData, tmp_path: Path
) -> None:
    weights = DetectorRun(trained).weights
    recipe = DetectorRun(trained).record().recipe
    run = DetectorRun(tmp_path / "run")
    short = recipe.optimisation.model_copy(update={"epochs": 1})
    short_recipe = recipe.model_copy(update={"optimisation": short})
    DetectorTrainer(short_recipe, data, run, weights).run()
    assert run.record().weights_sha256 == sha256_of(weights)
    assert DetectorRun(trained).record().weights_sha256 is None

    other = Path(shutil.copy(run.weights, tmp_path / "other.npz"))
    assert DetectorTrainer(short_recipe, data, run, weights).run().number == 1
    for start in (None, other):
        with pytest.raises(TrainingError, match=DetectorRecord.DIFFERENCE):
            DetectorTrainer(short_recipe, data, run, start).run()


@pytest.fixture(scope="module")
def verified(trained: Path, words: list[str], folder: Path) -> Path:
    """The same run with a verifier."""
    run = Path(shutil.copytree(trained, folder / "verified"))
    assert main(["detector", "verifier", str(run), *words]) == 0
    return run


def test_verifier_learns_to_separate_faces(verified: Path, data: DetectorData) -> None:
    run = DetectorRun(verified)
    state = load_checkpoint(run.verifier.checkpoint)
    assert state.history[-1].loss < 0.8 * state.history[0].loss
    verifier = VerifierNetwork(run.record().recipe.verifier)
    verifier.load_state_dict(state.average)
    verifier.eval()
    faces = collect(lambda images: [[] for _ in images], data.test, np.random.default_rng(1))
    noise = np.random.default_rng(2).integers(60, 130, (8, PATCH_SIDE, PATCH_SIDE))
    with torch.no_grad():
        is_face, is_none = (
            verifier(torch.from_numpy(patches.astype(np.float32))[:, None])[0]
            for patches in (faces.patches, noise)
        )
    assert is_face.median() > is_none.max()


def test_resumed_training_of_a_verifier_ends_as_an_unbroken_one(
    trained: Path,
    verified: Path,
    data: DetectorData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = DetectorRun(Path(shutil.copytree(trained, tmp_path / "stopped")))
    real: Callable[..., Candidates] = verifier_training.collect
    collections = 0

    def broken(*arguments: object) -> Candidates:
        nonlocal collections
        collections += 1
        if collections == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(verifier_training, "collect", broken)
    with pytest.raises(KeyboardInterrupt):
        VerifierTrainer(run, data).run()
    monkeypatch.undo()
    VerifierTrainer(run, data).run()
    resumed, unbroken = (
        load_checkpoint(r.verifier.checkpoint).average for r in (run, DetectorRun(verified))
    )
    for name, value in unbroken.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-4)


def test_verifier_of_another_search_is_an_error(
    verified: Path, data: DetectorData, tmp_path: Path
) -> None:
    run = DetectorRun(Path(shutil.copytree(verified, tmp_path / "run")))
    weights = dict(np.load(run.weights))
    np.savez(run.weights, **{name: values * 0.9 for name, values in weights.items()})
    with pytest.raises(TrainingError, match="holds a run of"):
        VerifierTrainer(run, data).run()


def test_verifier_and_export_with_other_data_are_refused(
    trained: Path, data: DetectorData, tmp_path: Path
) -> None:
    run, other = DetectorRun(trained), replace(data, fingerprint="0" * 64)
    with pytest.raises(TrainingError, match="--photos"):
        VerifierTrainer(run, other)
    with pytest.raises(TrainingError, match="--photos"):
        export.export_detector(run, other, tmp_path)


def test_export_without_a_verifier_is_an_error(
    trained: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models"
    assert main(["detector", "export", str(trained), "--out", str(out), *words]) == 1
    assert str(DetectorRun(trained).verifier.folder) in capsys.readouterr().err
    assert not (out / "detector.json").exists()


def test_exported_detector_runs_in_the_daemon(
    verified: Path,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "REPRESENTATIVES", (8,))
    monkeypatch.setattr(export, "DRAWS", 2)
    run = shutil.copytree(verified, tmp_path / "run")
    out = tmp_path / "models"
    assert main(["detector", "export", str(run), "--out", str(out), *words]) == 0
    assert "average_precision" in capsys.readouterr().out
    manifest = read_manifest(out / "detector.json")
    framing = manifest.framing
    assert framing.x + framing.width / 2 == pytest.approx(0.5, abs=0.1)
    assert framing.y + framing.height / 2 == pytest.approx(0.5, abs=0.1)
    detector = BundledDetector(out / "detector.json", 0.5)
    for size in ((120, 160), (64, 96)):
        found = detector.detect(np.zeros((*size, 3), np.uint8))
        assert all(0.3 <= detection.score <= 1 for detection in found)


def test_recipe_with_an_unknown_setting_is_an_error(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "odd.toml"
    recipe.write_text(RECIPE.replace("pyramid", "pyramids"))
    assert main(["detector", "train", str(recipe), "--run", str(tmp_path / "run"), *words]) == 2
    assert "pyramids" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        'method = "sgd"',
        "momentum = 0.5",
        "patience = 3",
        "max_norm = 1.0",
        "head_rate = 0.1",
        'precision = "float32"',
    ],
)
def test_recipe_with_a_setting_that_has_no_effect_is_refused(tmp_path: Path, line: str) -> None:
    recipe = tmp_path / "odd.toml"
    recipe.write_text(RECIPE.replace('method = "adamw"', line))
    with pytest.raises(RecipeError, match=rf"optimisation\.{line.split(maxsplit=1)[0]}: "):
        read_recipe_as(DetectorRecipe, recipe)


def test_commands_of_emotion_models_skip_the_run(
    trained: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    shutil.copytree(place / "run", work / "emotions")
    shutil.copytree(trained, work / "detector")
    (work / "mlflow.db").touch()
    paths = [str(path) for path in sorted(work.iterdir())]
    for words in (["report", *paths, "--out", str(tmp_path / "page.html")], ["track", *paths]):
        assert main(words) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{work / 'detector'}: ")


def test_recipes_are_valid() -> None:
    recipes = [*(Path(__file__).parents[2] / "recipes" / "detector").glob("*.toml")]
    assert recipes
    for recipe in recipes:
        assert read_recipe_as(DetectorRecipe, recipe).name == recipe.stem
