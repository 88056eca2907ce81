"""Builds the Debian package from this source tree and a lock with one small package."""

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Final

import pytest

from edge_daemon import __version__

ROOT: Final = Path(__file__).parents[2]


def run(*command: object, **environment: str) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_package(folder: Path, program: str | None = None, **environment: str) -> Path:
    """The package for bookworm on x86-64.

    Args:
        folder: an empty folder for it.
        program: a script in place of the package's own program.
        environment: variables of the build.
    """
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    source = folder / "source"
    for name in ("edge_daemon", "models", "deploy"):
        shutil.copytree(ROOT / name, source / name)
    shutil.copy(ROOT / "CHANGELOG.md", source)
    if program is not None:
        (source / "deploy/debian/edge-daemon.py").write_text(program)
    lock = _write_wheel(folder / "wheelhouse")
    (source / "deploy/locks/bookworm.txt").write_text(lock)
    words = ("--suite", "bookworm", "--machine", "x86_64", "--wheelhouse", folder / "wheelhouse")
    run(source / "deploy/debian/build.sh", *words, folder, **environment)
    return folder / f"edge-daemon_{__version__}_amd64.deb"


def _write_wheel(folder: Path) -> str:
    """A package without code, for other Pythons than this one; the line of a lock for it."""
    folder.mkdir()
    file = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    metadata = ("Metadata-Version: 2.1", "Name: tiny", "Version: 1.0", "Requires-Python: >=3.99")
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"{info}/METADATA", "\n".join((*metadata, "")))
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"tiny==1.0 --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"
