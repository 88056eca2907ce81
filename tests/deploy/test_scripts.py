"""The scripts of deploy/: shellcheck, usage, and one line for invalid options."""

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


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    done = run("shellcheck", "--external-sources", script)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--brocker", "x"], "--brocker: unknown option"),
        (["--brocker=x"], "--brocker: unknown option"),
        (["--source"], "--source: option requires a value"),
        (["--timeout", "soon"], "--timeout: invalid value (got soon)"),
        (["--wheelhouse", "/no/such"], "--wheelhouse: no such folder (got /no/such)"),
        (["--credentials=/no/such"], "--credentials: cannot be read (got /no/such)"),
        (["--credentials=/etc/hostname"], "--credentials: must be two lines (got /etc/hostname)"),
    ],
)
def test_installer_invalid_option_fails_in_one_line(options: list[str], message: str) -> None:
    done = run(DEPLOY / "install.sh", "--dry-run", *options)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"install.sh: {message}")
    assert done.stdout == ""


def test_wheelhouse_unknown_suite_fails_in_one_line() -> None:
    done = run(DEPLOY / "make-wheelhouse.sh", "--suite", "jessie", "/no/such")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--suite: invalid value (got jessie)" in done.stderr


def test_scripts_print_their_usage() -> None:
    for script in SCRIPTS[:2]:
        done = run(script, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: {'sudo ' * ('install' in script.name)}deploy/")
