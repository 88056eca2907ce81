import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_split, subject_of, write_sheets, write_unlabelled

from edge_daemon._lib.files import sha256_of
from edge_daemon.inference.bundle import read_bundle
from emotion_trainer.bundle.ladder import LadderStep, in_order, time_left
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset
from emotion_trainer.data.dataset import faces_fingerprint
from emotion_trainer.errors import RecipeError
from emotion_trainer.models import families
from emotion_trainer.recipe import Distillation, Recipe, read_recipe
from emotion_trainer.training import checkpoint
from emotion_trainer.training.checkpoint import Epoch
from emotion_trainer.training.runs import Run
from emotion_trainer.training.soft_labels import SoftLabels

RECIPE = """
seed = 3
[model]
family = "{family}"
{size}
[optimisation]
epochs = {epochs}
batch = 32
learning_rate = {rate}
ema_momentum = 0.8
"""
BACKBONE = "bundled = false\n" + RECIPE.format(
    family="backbone", size='side = 48\nweights = "absent.npz"\nlicence = "MIT"', epochs=1, rate=0.1
)
ABSENT_TEACHER = '[distillation]\nteachers = ["absent"]\n'
SEQ1 = RECIPE.format(family="seq1", size="blocks = [[8, 1], [16, 1]]", epochs=4, rate=0.1)
SEQ2 = RECIPE.format(family="seq2", size="widths = [8, 8]\nhidden = 16", epochs=3, rate=0.05)
WILD = SEQ1.replace("0.1", "1e30")


@pytest.fixture
def place(tmp_path: Path, dataset: Dataset) -> Path:
    write_sheets(dataset, tmp_path / "sheets")
    for name, text in (("a", SEQ1), ("b", SEQ2), ("wild", WILD)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def failures_in(error: str) -> dict[str, str]:
    """The recipes that failed, in order, each with the setting or the place in its error."""
    parts = [line.split(": ") for line in error.splitlines()]
    return {part[0]: part[2] for part in parts if part[1] == "failed"}


def arguments(place: Path, *names: str) -> list[str]:
    recipes = [str(place / f"{name}.toml") for name in names]
    folders = {"--data": "sheets", "--work": "work", "--out": "out"}
    return ["ladder", *recipes, *(x for k, v in folders.items() for x in (k, str(place / v)))]


def test_ladder_killed_resumes_and_skips_what_is_done(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Run(place / "work" / "a")
    code = "import sys; from emotion_trainer.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments(place, "a")])
    while not first.checkpoint.exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    epochs_before = len(first.history)
    assert main(arguments(place, "a")) == 0
    assert capsys.readouterr().out.count("\nepoch ") == 4 - epochs_before
    assert len(checkpoint.load(first.checkpoint).history) == 4
    assert [member.provenance.recipe for member in read_bundle(place / "out").members] == ["a"]

    exported = first.int8_path.stat().st_mtime_ns
    assert main(arguments(place, "a")) == 0
    assert "epoch" not in capsys.readouterr().out
    assert first.int8_path.stat().st_mtime_ns == exported


def taught_by(place: Path, *teachers: str) -> str:
    folders = [str(place / "work" / teacher) for teacher in teachers]
    return f"[distillation]\nteachers = {folders}\n"


def test_ladder_trains_teachers_first_and_need_not_bundle_them(place: Path) -> None:
    (place / "a.toml").write_text(SEQ1 + taught_by(place, "b"))
    (place / "b.toml").write_text("bundled = false\n" + SEQ2)
    assert main(arguments(place, "a", "b")) == 0
    assert Run(place / "work" / "a").soft_labels.exists()
    assert not Run(place / "work" / "b").is_exported
    assert [m.provenance.recipe for m in read_bundle(place / "out").members] == ["a"]

    teacher = ["bundle", str(place / "work" / "b"), "--out", str(place / "other")]
    assert main([*teacher, "--data", str(place / "sheets")]) == 1
    assert not (place / "other").exists()


def test_ladder_unlabelled_faces_are_for_recipes_with_teachers(
    place: Path, dataset: Dataset
) -> None:
    (place / "b.toml").write_text(SEQ2 + taught_by(place, "a"))
    write_unlabelled(dataset.training.images[:40], place / "more")
    assert main([*arguments(place, "a", "b"), "--unlabelled", str(place / "more")]) == 0
    fingerprints = [Run(place / "work" / x).record().unlabelled_fingerprint for x in "ab"]
    assert fingerprints == [None, faces_fingerprint(dataset.training.images[:40])]


def test_ladder_recipe_refused_at_its_turn_leaves_no_run(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "c.tflite").write_bytes(b"no model")
    (place / "b.toml").write_text(f'start = "{place}/c.tflite"\n{SEQ2}')
    assert main(arguments(place, "a", "b")) == 1
    assert failures_in(capsys.readouterr().err) == {"b": "start"}
    assert not (place / "work" / "b").exists()


def test_ladder_training_that_stopped_early_is_finished(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = SEQ2.replace("epochs = 3", "epochs = 60\npatience = 1")
    (place / "b.toml").write_text("bundled = false\n" + teacher)
    assert main(arguments(place, "b", "a")) == 0
    assert len(Run(place / "work" / "b").history) < 60
    capsys.readouterr()
    assert main(arguments(place, "b", "a")) == 0
    output = capsys.readouterr().out
    assert "0:00:00" in output  # the time left
    assert "epoch" not in output


def test_ladder_recipe_that_fails_fails_its_students_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "b.toml").write_text(SEQ2 + taught_by(place, "wild"))
    assert main(arguments(place, "b", "a", "wild")) == 1
    failures = failures_in(capsys.readouterr().err)
    assert list(failures) == ["wild", "b"]
    assert failures["b"] == "distillation.teachers"
    (member,) = read_bundle(place / "out").members
    assert (member.provenance.recipe, member.family) == ("a", "seq1")


def test_ladder_goes_on_where_a_teaching_bundle_is_damaged(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "damaged").mkdir()
    (place / "damaged" / "bundle.json").write_text("{")
    teachers = f'[distillation]\nteachers = ["{place}/damaged"]\n'
    (place / "b.toml").write_text(SEQ2 + teachers)
    assert main(arguments(place, "b", "a")) == 1
    assert list(failures_in(capsys.readouterr().err)) == ["b"]
    assert [member.provenance.recipe for member in read_bundle(place / "out").members] == ["a"]


def step(
    recipe: Recipe, work: Path, name: str, *teachers: str, start: Path | None = None
) -> LadderStep:
    taught = Distillation(teachers=tuple(work / t for t in teachers)) if teachers else None
    settings = {"name": name, "distillation": taught, "start": start}
    return LadderStep(recipe.model_copy(update=settings), Run(work / name), 1.0)


def test_in_order_teachers_of_teachers_come_first(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a folder may be written in more than one way."""
    monkeypatch.chdir(tmp_path)
    work = Path("work")
    steps = [
        step(recipe, work, "c", "b", "a"),
        step(recipe, tmp_path / "work", "b", "a"),
        step(recipe, work, "d"),
        step(recipe, work / ".." / "work", "a", start=work / "e" / "best.keras"),
        step(recipe, work, "e", start=tmp_path / "models" / "e_int8.tflite"),
    ]
    order = [placed.recipe.name for placed in in_order(steps)]
    assert sorted(order) == ["a", "b", "c", "d", "e"]
    assert order.index("e") < order.index("a") < order.index("b") < order.index("c")


def test_in_order_circle_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    steps = [
        step(recipe, tmp_path, "a", "b"),
        step(recipe, tmp_path, "b", "a"),
        step(recipe, tmp_path, "c"),
    ]
    with pytest.raises(RecipeError, match=r"\b(a before b|b before a)\b"):
        in_order(steps)
    with pytest.raises(RecipeError, match="d before d"):
        in_order([step(recipe, tmp_path, "d", "d")])
    with pytest.raises(RecipeError, match="d before d"):
        in_order([step(recipe, tmp_path, "d", start=tmp_path / "d" / "best.keras")])


def test_in_order_teacher_neither_finished_nor_listed_is_refused(
    tmp_path: Path, recipe: Recipe
) -> None:
    with pytest.raises(RecipeError, match=r"^distillation.teachers: .*/absent "):
        in_order([step(recipe, tmp_path, "a"), step(recipe, tmp_path, "b", "a", "absent")])


@pytest.mark.parametrize(
    ("names", "text", "problem"),
    [
        (("b", "a"), SEQ1 + ABSENT_TEACHER, "distillation.teachers: absent "),
        (("b", "a", "a"), SEQ1, " a\n"),
        (("a",), "bundled = false\n" + SEQ1, "a: "),
        (("b", "a"), 'start = "absent.tflite"\n' + SEQ1, "(got absent.tflite)"),
        (("b", "a"), BACKBONE, "(got absent.npz)"),
    ],
)
def test_ladder_refuses_what_would_fail_before_any_training(
    place: Path,
    names: tuple[str, ...],
    text: str,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (place / "a.toml").write_text(text)
    assert main(arguments(place, *names)) == 2
    assert problem in capsys.readouterr().err
    assert not (place / "work").exists()


def test_ladder_soft_labels_of_other_faces_are_refused(
    place: Path, dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.full((448, 7), -np.log(7.0))
    other = replace(dataset, training=draw_split(448, seed=5))
    SoftLabels.of(other, (), rows, rows[:0]).save(place / "other.npz")
    (place / "b.toml").write_text(f'{SEQ2}\n[distillation]\nsoft_labels = ["{place}/other.npz"]\n')
    assert main(arguments(place, "a", "b")) == 1
    assert subject_of(capsys.readouterr().err) == f"{place}/other.npz"
    assert not (place / "work").exists()


def test_ladder_recipe_continues_from_one_that_comes_later(place: Path) -> None:
    work = place / "work"
    (place / "b.toml").write_text(f'start = "{work}/a/a_int8.tflite"\n{SEQ1}')
    assert main(arguments(place, "b", "a")) == 0
    assert Run(work / "b").record().start_sha256 == sha256_of(work / "a" / "a_int8.tflite")


def test_ladder_start_that_its_source_does_not_export_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "a.toml").write_text("bundled = false\n" + SEQ1)
    (place / "b.toml").write_text(f'start = "{place}/work/a/a_int8.tflite"\n{SEQ1}')
    assert main(arguments(place, "a", "b")) == 2
    assert subject_of(capsys.readouterr().err) == "start"
    assert not (place / "work").exists()


def test_ladder_start_of_a_recipe_that_failed_fails_too(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though a model of an earlier run is there."""
    run = Run(place / "work" / "wild")
    run.folder.mkdir(parents=True)
    families.build(read_recipe(place / "wild.toml").model).save(run.best)
    (place / "b.toml").write_text(f'start = "{run.best}"\n{SEQ1}')
    assert main(arguments(place, "b", "a", "wild")) == 1
    assert list(failures_in(capsys.readouterr().err)) == ["wild", "b"]
    assert not (place / "work" / "b").exists()


def test_in_order_kept_soft_labels_replace_their_teachers(tmp_path: Path, recipe: Recipe) -> None:
    begun = step(recipe, tmp_path, "a", "gone")
    begun.run.folder.mkdir()
    begun.run.soft_labels.touch()
    assert in_order([begun]) == [begun]


def test_ladder_without_a_finished_recipe_writes_no_bundle(place: Path) -> None:
    assert main(arguments(place, "wild")) == 1
    assert not (place / "out").exists()


def test_time_left_follows_the_measured_epochs() -> None:
    done = tuple(Epoch(number, 1.0, 0.5, seconds=20.0) for number in (1, 2))
    assert time_left([(10, 4.0, ())]) is None
    # Eight epochs of 20 s; five of a network of half the cost, thought to take 10 s.
    assert time_left([(10, 4.0, done), (5, 2.0, ())]) == timedelta(seconds=8 * 20 + 5 * 10)
