"""The first commands and examples of the documentation work as they are."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from conftest import Program, clean_environment
from documents import DOCS, README, ROOT
from drawing import draw_scene

from edge_daemon.schema import FacesMessage

GETTING_STARTED = DOCS / "getting-started.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_message_in_getting_started_is_valid() -> None:
    (message_text,) = blocks(GETTING_STARTED, "json")
    message = FacesMessage.model_validate_json(message_text)
    assert sum((message.faces[0].probabilities or {}).values()) == pytest.approx(1.0)


def test_table_in_getting_started_has_every_field(drawn_clip: Path, program: Program) -> None:
    done = program("--source", drawn_clip, "--sink", "jsonl", "--detector", "haar")
    message = json.loads(done.stdout.splitlines()[0])
    text = GETTING_STARTED.read_text(encoding="utf-8")
    for field in {*message, *message["faces"][0]} - {"schema", "width", "height", "faces"}:
        assert f"`{field}`" in text


CHECKS = {
    "EmotionEnsemble": "\nassert probabilities.shape == (2, 7)"
    "\nassert abs(probabilities.sum() - 2) < 1e-5",
}
"""Lines that are added to the example with a name."""


@pytest.mark.parametrize("example", blocks(DOCS / "python-api.md", "python"))
def test_python_example_runs(example: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "group.jpg"), draw_scene((60, 60, 120)))
    for name, check in CHECKS.items():
        example += check if f"import {name}" in example else ""
    subprocess.run([sys.executable, "-c", example], check=True, timeout=60, cwd=tmp_path)


def test_first_commands_are_the_same_on_both_pages() -> None:
    assert blocks(README, "sh")[0] == blocks(GETTING_STARTED, "sh")[0]


@pytest.mark.timeout(700)
def test_first_commands_run_in_fresh_clone(tmp_path: Path, drawn_clip: Path) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True, timeout=60)
    install, run = blocks(README, "sh")[0].replace("CLIP.mp4", str(drawn_clip)).splitlines()
    shell = {"shell": True, "cwd": clone, "env": clean_environment(tmp_path), "text": True}
    subprocess.run(install, check=True, timeout=600, **shell)
    done = subprocess.run(run, check=False, capture_output=True, timeout=60, **shell)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 13  # the last one has the `left` event


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) < 800
