"""The check of the package's structure: the table, and what fails."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(checkout: Path) -> tuple[int, list[str], list[str]]:
    """The exit code, the lines of the table, and the problems."""
    done = subprocess.run(
        [sys.executable, "scripts/imports"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the check, with a small package of the same packages to change."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/imports", tmp_path / "scripts")
    package = tmp_path / "edge_daemon"
    package.mkdir()
    for file in ROOT.glob("edge_daemon/*.py"):
        (package / file.name).touch()
    for file in ROOT.glob("edge_daemon/*/*.py"):
        (package / file.parent.name).mkdir(exist_ok=True)
        (package / file.parent.name / file.name).touch()
    append(tmp_path, "publishing/client.py", "from edge_daemon.publishing import mqtt")
    return tmp_path


def append(checkout: Path, module: str, line: str) -> None:
    with (checkout / "edge_daemon" / module).open("a") as file:
        file.write(f"\n{line}\n")


@pytest.mark.slow
def test_imports_of_this_package_pass() -> None:
    code, table, problems = run(ROOT)
    assert (code, problems) == (0, [])
    rows = [line.split() for line in table[1:-1]]
    imports = {name: set(imported) for name, _, _, _, _, *imported in rows}
    assert {"capture", "detection", "publishing"} <= imports["daemon"]
    assert "daemon" not in imports["capture"]
    assert "records" in imports["detection"]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("capture/loop.py", "from edge_daemon.detection.base import Detector"),
        ("records.py", "def f() -> None:\n    import edge_daemon.schema"),
        ("publishing/mqtt.py", "from edge_daemon import daemon"),
        ("daemon.py", "from edge_daemon.commands import bench"),
    ],
)
def test_imports_against_the_direction_fail(checkout: Path, module: str, line: str) -> None:
    append(checkout, module, line)
    code, _, problems = run(checkout)
    assert code == 1
    name = module.removesuffix(".py").replace("/", ".")
    assert problems[0].split(": ")[1] == name


def test_imports_cycle_in_a_package_fails(checkout: Path) -> None:
    append(checkout, "publishing/mqtt.py", "from edge_daemon.publishing import client")
    code, _, problems = run(checkout)
    assert code == 1
    assert "publishing.client" in problems[0]
    assert "publishing.mqtt" in problems[0]


def test_imports_of_too_many_modules_fail(checkout: Path) -> None:
    for number in range(100):
        append(checkout, f"_lib/part{number}.py", "X = 1")
    code, _, problems = run(checkout)
    assert code == 1
    assert "MAX_MODULES" in problems[0]


def test_imports_of_a_package_without_layer_fail(checkout: Path) -> None:
    append(checkout, "misc.py", "X = 1")
    code, _, problems = run(checkout)
    assert code == 1
    assert "misc" in problems[0]
