"""Trainings cut short to try the commands: `--epochs` and `--limit`."""

from pathlib import Path

import numpy as np
import pytest
from conftest import subject_of

from emotion_trainer.bundle.records import read_records
from emotion_trainer.cli import main
from emotion_trainer.commands.opening import warn_of_absent_emotions
from emotion_trainer.data import Dataset
from emotion_trainer.recipe import Recipe
from emotion_trainer.training.provenance import Trial, cut_short
from emotion_trainer.training.runs import Run


def test_trial_warns_at_each_command_and_on_the_card(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data", str(place / "sheets")]

    def stderr_of(*words: str) -> str:
        assert main([*words, *data]) == 0
        return capsys.readouterr().err

    train = ["train", str(place / "tiny.toml"), "--epochs", "3", "--limit", "400"]
    error = stderr_of(*train)
    run = Run(Path("work", "tiny_trial"))
    warning = run.record().warning
    assert warning is not None
    assert warning in error
    assert run.record().trial == Trial(recipe_epochs=4, limit=400)
    assert len(run.history) == 3
    assert warning in stderr_of("export", str(run.folder))
    assert warning in stderr_of("bundle", str(run.folder), "--out", "models")
    card = Path("models", "README.md").read_text()
    assert f"> [!WARNING]\n> {warning}" in card
    assert read_records(Path("models"))["tiny_int8.tflite"].run.training_faces == 400
    assert warning in stderr_of("card", "models")
    assert main(["report", str(run.folder), "--out", "page.html"]) == 0
    assert "(trial)" in Path("page.html").read_text()


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_limit_that_is_not_positive_is_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", __file__, "--data", __file__, "--limit", number]) == 2
    error = capsys.readouterr().err
    assert subject_of(error) == "--limit"
    assert f"(got '{number}')" in error


def test_cut_short_shortens_the_warmup(recipe: Recipe) -> None:
    shorter, trial = cut_short(recipe, 1, None)
    assert trial == Trial(recipe_epochs=3)
    assert shorter.optimisation.epochs == 1
    assert shorter.optimisation.warmup_epochs == 0.25


def test_cut_short_is_no_trial_with_as_many_epochs(recipe: Recipe) -> None:
    assert cut_short(recipe, None, None) == (recipe, None)
    longer, trial = cut_short(recipe, 5, None)
    assert (longer.optimisation.epochs, trial) == (5, None)
    assert cut_short(recipe, 5, 10)[1] == Trial(recipe_epochs=3, limit=10)


def test_limited_data_are_the_same_faces_each_time(dataset: Dataset) -> None:
    few = dataset.limited(70)
    assert (len(few.training), len(few.validation)) == (70, 70)
    assert few.fingerprint == dataset.limited(70).fingerprint != dataset.fingerprint
    face, label = few.training.images[0], few.training.labels[0]
    (place,) = np.flatnonzero((dataset.training.images == face).all(axis=(1, 2)))
    assert dataset.training.labels[place] == label
    assert dataset.limited(1000).fingerprint == dataset.fingerprint


def test_limited_data_without_an_emotion_are_reported(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_absent_emotions(dataset)
    assert not capsys.readouterr().err
    few = dataset.limited(3)
    warn_of_absent_emotions(few)
    for split, line in zip(
        (few.training, few.validation), capsys.readouterr().err.splitlines(), strict=True
    ):
        assert f"no face of {', '.join(split.absent)} among 3 of " in line
