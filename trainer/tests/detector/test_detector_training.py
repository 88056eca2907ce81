"""A tiny network on made-up material: trained, stopped, resumed, exported, run by the daemon."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from detector.material import crops, write_photos

from edge_daemon.detection.bundled import BundledDetector
from edge_daemon.detection.manifest import read_manifest
from emotion_trainer.checkpoint import load
from emotion_trainer.cli import main
from emotion_trainer.detector import training
from emotion_trainer.detector.crops import save_crops
from emotion_trainer.detector.data import DetectorData, load_data
from emotion_trainer.detector.recipe import DetectorRecipe
from emotion_trainer.detector.runs import DetectorRun
from emotion_trainer.detector.training import DetectorTrainer
from emotion_trainer.errors import TrainingError

RECIPE = """
seed = 3

[network]
stem = 8
stages = [[16, 1], [24, 1], [32, 1], [32, 1]]
kernel = 3

[scenes]
side = 96
smallest = 14
photos = 0.3
hidden = 0
tilt = 10
epoch = 320
validation = 40

[optimisation]
method = "adamw"
epochs = 8
batch = 16
learning_rate = 8e-3
warmup_epochs = 0.5
weight_decay = 1e-3
ema_momentum = 0.9
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("detector")
    write_photos(made / "photos")
    save_crops(crops(), made / "crops.npz")
    (made / "tiny.toml").write_text(RECIPE)
    return made


@pytest.fixture(scope="module")
def data(folder: Path) -> DetectorData:
    return load_data(folder / "photos", folder / "crops.npz")


@pytest.fixture(scope="module")
def words(folder: Path) -> list[str]:
    return ["--photos", str(folder / "photos"), "--crops", str(folder / "crops.npz")]


@pytest.fixture(scope="module")
def trained(folder: Path, words: list[str]) -> Path:
    run = folder / "work"
    assert main(["detector", "train", str(folder / "tiny.toml"), "--run", str(run), *words]) == 0
    return run


def test_it_learns_to_find_made_up_faces(trained: Path) -> None:
    history = DetectorRun(trained).history
    assert len(history) == 8
    assert history[-1].loss < history[0].loss / 2
    assert history[-1].accuracy > 0.3


def test_a_resumed_training_ends_as_an_unbroken_one(
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
    assert len(stopped.history) == 2
    monkeypatch.undo()
    DetectorTrainer(recipe, data, stopped).run()
    ends = [load(run.checkpoint) for run in (stopped, DetectorRun(trained))]
    for resumed, unbroken in zip(ends[0].average, ends[1].average, strict=True):
        np.testing.assert_allclose(resumed, unbroken, rtol=1e-3, atol=1e-4)


def test_a_run_of_another_recipe_is_not_gone_on_with(trained: Path, data: DetectorData) -> None:
    recipe = DetectorRun(trained).record().recipe.model_copy(update={"seed": 4})
    with pytest.raises(TrainingError, match="another recipe"):
        DetectorTrainer(recipe, data, DetectorRun(trained)).run()


def test_what_is_exported_the_daemon_runs(
    trained: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    out = tmp_path / "models"
    assert main(["detector", "export", str(run), "--out", str(out), *words]) == 0
    assert "average precision" in capsys.readouterr().out
    manifest = read_manifest(out / "detector.json")
    framing = manifest.framing
    assert framing.x + framing.width / 2 == pytest.approx(0.5, abs=0.1)
    assert framing.y + framing.height / 2 == pytest.approx(0.5, abs=0.1)
    detector = BundledDetector(out / "detector.json", 0.5)
    assert detector.detect(np.zeros((120, 160, 3), np.uint8)) == []


def test_it_is_measured_and_plotted(
    trained: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = tmp_path / "plots"
    model = str(trained / "best.keras")
    assert main(["detector", "evaluate", model, "--plots", str(plots), *words]) == 0
    printed = capsys.readouterr().out
    for title in ("size in pixels", "tilt in degrees", "covered part", "without a face"):
        assert title in printed
    assert {path.name for path in plots.iterdir()} == {
        "precision-recall.svg",
        "false-positives.svg",
        "recall-by-size.svg",
        "recall-by-tilt.svg",
        "recall-by-covered.svg",
    }


def test_what_is_no_model_is_refused_in_a_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detector", "evaluate", str(tmp_path / "model.pt"), *words]) == 1
    assert "model.pt" in capsys.readouterr().err


def test_a_recipe_with_an_unknown_setting_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "odd.toml"
    recipe.write_text(RECIPE.replace("kernel = 3", "kernels = 3"))
    assert main(["detector", "train", str(recipe), "--run", str(tmp_path / "run"), *words]) == 2
    assert "kernels" in capsys.readouterr().err


def test_recipe_is_complete() -> None:
    for recipe in (Path(__file__).parents[2] / "recipes" / "detector").glob("*.toml"):
        from emotion_trainer.recipe import read_recipe_as

        assert read_recipe_as(DetectorRecipe, recipe).name == recipe.stem
