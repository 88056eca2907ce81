from pathlib import Path

import numpy as np
import pytest

from emotion_trainer import checkpoint as checkpoints
from emotion_trainer.data import Dataset
from emotion_trainer.errors import TrainingError
from emotion_trainer.progress import Progress
from emotion_trainer.recipe import Recipe
from emotion_trainer.runs import Run
from emotion_trainer.training import Trainer


class Killed(BaseException):
    pass


def die_in_epoch(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(_self: Progress, epoch: int, step: int, _loss: float) -> None:
        if (epoch, step) == (number, 5):
            raise Killed

    monkeypatch.setattr(Progress, "step", step)


def test_goes_on_after_a_kill_as_if_there_had_been_none(
    tmp_path: Path, dataset: Dataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken, broken = Run(tmp_path / "unbroken"), Run(tmp_path / "broken")
    best = Trainer(recipe, dataset, unbroken).run()
    assert best.accuracy > 0.5

    die_in_epoch(2, monkeypatch)
    with pytest.raises(Killed):
        Trainer(recipe, dataset, broken).run()
    monkeypatch.undo()
    resumed = Trainer(recipe, dataset, broken).run()

    assert resumed.accuracy == pytest.approx(best.accuracy, abs=0.02)
    expected, found = (checkpoints.load(run.checkpoint) for run in (unbroken, broken))
    assert [epoch.number for epoch in found.history] == [1, 2, 3]
    for a, b in zip(found.average, expected.average, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_refuses_to_go_on_with_another_recipe(
    tmp_path: Path, dataset: Dataset, recipe: Recipe
) -> None:
    short = recipe.optimisation.model_copy(update={"epochs": 1})
    run = Run(tmp_path)
    Trainer(recipe.model_copy(update={"optimisation": short}), dataset, run).run()
    with pytest.raises(TrainingError, match="another recipe or other data"):
        Trainer(recipe, dataset, run).run()


def test_a_diverging_loss_ends_it(tmp_path: Path, dataset: Dataset, recipe: Recipe) -> None:
    wild = recipe.optimisation.model_copy(update={"learning_rate": 1e30, "warmup_epochs": 0.0})
    with pytest.raises(TrainingError, match="lower the learning rate"):
        Trainer(recipe.model_copy(update={"optimisation": wild}), dataset, Run(tmp_path)).run()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(TrainingError, match=r"checkpoint.npz: is damaged"):
        checkpoints.load(path)
