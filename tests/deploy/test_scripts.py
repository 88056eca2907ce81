"""The scripts of deploy/: sound, and refusing what is wrong in one line."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCRIPTS = [DEPLOY / "install.sh", DEPLOY / "make-wheelhouse.sh", DEPLOY / "edge-daemon"]
SCRIPTS += sorted(
    path
    for path in (ROOT / "scripts").iterdir()
    if path.is_file()
    and path.read_text().startswith(("#!/bin/sh", "#!/usr/bin/env bash", "# shell"))
)
SCRIPTS += [ROOT / ".ci" / "run"]
SCRIPTS += sorted((ROOT / "tests").rglob("*.sh"))


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    done = run("shellcheck", "--external-sources", script)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--brocker", "x"], "--brocker: no such option"),
        (["--brocker=x"], "--brocker: no such option"),
        (["--source"], "--source: what belongs behind it is missing"),
        (["--timeout", "soon"], "--timeout soon: must be a whole number"),
        (["--wheelhouse", "/no/such"], "--wheelhouse /no/such: no such folder"),
        (["--credentials=/no/such"], "--credentials /no/such: cannot be read"),
        (["--credentials=/etc/hostname"], "two lines: user name, password"),
    ],
)
def test_wrong_answer_is_refused_in_one_line(words: list[str], said: str) -> None:
    done = run(DEPLOY / "install.sh", "--dry-run", *words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("install.sh: ")
    assert said in line
    assert done.stdout == ""


def test_wheelhouse_is_made_for_known_systems_only() -> None:
    done = run(DEPLOY / "make-wheelhouse.sh", "--suite", "jessie", "/no/such")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "must be bookworm or trixie" in done.stderr


def test_scripts_tell_how_they_are_used() -> None:
    for script in SCRIPTS[:2]:
        done = run(script, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: {'sudo ' * ('install' in script.name)}deploy/")
