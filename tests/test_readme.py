"""What the README shows works as it stands there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Program, clean_environment

from edge_daemon.schema import FacesMessage

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_message_shown_is_one() -> None:
    (shown,) = blocks("json")
    message = FacesMessage.model_validate_json(shown)
    assert sum((message.faces[0].probabilities or {}).values()) == pytest.approx(1.0)


def test_the_table_names_every_field_of_a_message(drawn_clip: Path, program: Program) -> None:
    done = program("--source", drawn_clip, "--sink", "jsonl", "--detector", "haar")
    message = json.loads(done.stdout.splitlines()[0])
    for field in {*message, *message["faces"][0]} - {"schema", "width", "height", "faces"}:
        assert f"`{field}`" in README


def test_the_python_example_runs() -> None:
    (example,) = blocks("python")
    check = "\nassert probabilities.shape == (2, 7) and abs(probabilities.sum() - 2) < 1e-5"
    subprocess.run([sys.executable, "-c", example + check], check=True, timeout=60)


@pytest.mark.timeout(700)
def test_the_two_first_commands_run_in_a_fresh_copy(tmp_path: Path, drawn_clip: Path) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "--quiet", ROOT, copy], check=True, timeout=60)
    install, run = blocks("sh")[0].replace("CLIP.mp4", str(drawn_clip)).splitlines()
    shell = {"shell": True, "cwd": copy, "env": clean_environment(tmp_path), "text": True}
    subprocess.run(install, check=True, timeout=600, **shell)
    done = subprocess.run(run, check=False, capture_output=True, timeout=60, **shell)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 12
