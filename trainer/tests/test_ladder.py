import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import write_sheets

from edge_daemon.inference.bundle import read_bundle
from emotion_trainer import checkpoint
from emotion_trainer.checkpoint import Epoch
from emotion_trainer.cli import main
from emotion_trainer.data import Dataset
from emotion_trainer.ladder import time_left
from emotion_trainer.runs import Run

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
SEQ1 = RECIPE.format(family="seq1", size="blocks = [[8, 1], [16, 1]]", epochs=4, rate=0.1)
SEQ2 = RECIPE.format(family="seq2", size="widths = [8, 8]\nhidden = 16", epochs=3, rate=0.05)
WILD = SEQ1.replace("0.1", "1e30")


@pytest.fixture
def place(tmp_path: Path, dataset: Dataset) -> Path:
    write_sheets(dataset, tmp_path / "sheets")
    for name, text in (("a", SEQ1), ("b", SEQ2), ("wild", WILD)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def arguments(place: Path, *names: str) -> list[str]:
    recipes = [str(place / f"{name}.toml") for name in names]
    folders = {"--data": "sheets", "--work": "work", "--out": "out"}
    return ["ladder", *recipes, *(x for k, v in folders.items() for x in (k, str(place / v)))]


def test_goes_on_after_a_kill_and_skips_what_is_done(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Run(place / "work" / "a")
    code = "import sys; from emotion_trainer.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments(place, "a", "b")])
    while not first.checkpoint.exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    assert main(arguments(place, "a", "b")) == 0
    assert "goes on after epoch" in capsys.readouterr().out
    assert len(checkpoint.load(first.checkpoint).history) == 4
    assert {member.provenance.recipe for member in read_bundle(place / "out").members} <= {"a", "b"}

    exported = first.exported().stat().st_mtime_ns
    assert main(arguments(place, "a", "b")) == 0
    assert "epoch" not in capsys.readouterr().out
    assert first.exported().stat().st_mtime_ns == exported


def test_a_recipe_that_fails_does_not_stop_the_others(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(place, "wild", "a")) == 1
    error = capsys.readouterr().err
    assert "wild: failed: epoch 1" in error
    assert error.endswith("emotion-trainer: bundled without what failed: wild\n")
    assert [m.family for m in read_bundle(place / "out").members] == ["seq1"]


def test_teachers_come_first(place: Path) -> None:
    teachers = f'[distillation]\nteachers = ["{place}/work/b"]\n'
    (place / "a.toml").write_text(SEQ1 + teachers)
    assert main(arguments(place, "a", "b")) == 0
    assert Run(place / "work" / "a").lesson.exists()


def test_nothing_finished_is_no_bundle(place: Path) -> None:
    assert main(arguments(place, "wild")) == 1
    assert not (place / "out").exists()


def test_time_left_is_at_the_pace_so_far() -> None:
    done = tuple(Epoch(number, 1.0, 0.5, seconds=20.0) for number in (1, 2))
    assert time_left([(10, 4.0, ())]) is None
    # Eight epochs of 20 s; five of a network of half the cost, thought to take 10 s.
    assert time_left([(10, 4.0, done), (5, 2.0, ())]) == timedelta(seconds=8 * 20 + 5 * 10)
