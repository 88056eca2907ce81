"""The Debian package, built from a lock with one small package."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import clean_environment

from edge_daemon import __version__

ROOT = Path(__file__).parents[2]

NAME = f"edge-daemon_{__version__}_amd64.deb"


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


def write_wheel(folder: Path) -> str:
    """A package without code; the line of a lock for it."""
    folder.mkdir()
    file = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"tiny==1.0 --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    folder = tmp_path_factory.mktemp("debian")
    source = folder / "source"
    for name in ("edge_daemon", "models", "deploy"):
        shutil.copytree(ROOT / name, source / name)
    shutil.copy(ROOT / "CHANGELOG.md", source)
    lock = write_wheel(folder / "wheelhouse")
    (source / "deploy/locks/bookworm.txt").write_text(lock)
    words = ("--suite", "bookworm", "--machine", "x86_64", "--wheelhouse", folder / "wheelhouse")
    maintainer = {"DEBFULLNAME": "A. Maintainer", "DEBEMAIL": "maintainer@debian.org"}
    run(source / "deploy/debian/build.sh", *words, folder, **maintainer)
    return folder / NAME


@pytest.fixture(scope="module")
def files(package: Path) -> Path:
    """The extracted files."""
    folder = package.parent / "files"
    run("dpkg-deb", "--extract", package, folder)
    return folder


def test_package_control_has_version_and_dependencies(package: Path) -> None:
    fields = dict(re.findall(r"^ ?(\S+): (.*)$", run("dpkg-deb", "--field", package), re.MULTILINE))
    assert (fields["Package"], fields["Version"]) == ("edge-daemon", __version__)
    assert fields["Architecture"] == "amd64"
    assert "python3 (>= 3.11), python3 (<< 3.12)" in fields["Depends"]
    assert fields["Maintainer"] == "A. Maintainer <maintainer@debian.org>"
    info = run("dpkg-deb", "--info", package)
    assert all(script in info for script in ("preinst", "postinst", "prerm", "postrm"))


def test_package_files_belong_to_root(package: Path) -> None:
    lines = run("dpkg-deb", "--contents", package).splitlines()
    assert {line.split()[1] for line in lines} == {"root/root"}
    assert not [line for line in lines if "__pycache__" in line]


def test_package_unit_starts_the_packages_program(files: Path) -> None:
    units = files / "usr/lib/systemd/system"
    for unit in ("edge-daemon.service", "edge-daemon@.service"):
        text = (units / unit).read_text()
        (program,) = re.findall(r"^ExecStart=(\S+)", text, re.MULTILINE)
        assert os.access(files / program.lstrip("/"), os.X_OK)
        common = (units / f"{unit}.d/10-common.conf").read_text()
        assert common == (ROOT / "deploy/common.conf").read_text()
    assert "/opt/" not in (files / "usr/bin/edge-daemon").read_text()


def test_package_program_prints_an_example_config(files: Path, tmp_path: Path) -> None:
    """With the libraries of this environment, and the package's own code."""
    done = subprocess.run(
        [sys.executable, "-P", files / "usr/lib/edge-daemon/edge-daemon", "config", "--example"],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(tmp_path),
    )
    assert "[mqtt]" in done.stdout
    assert (files / "usr/lib/edge-daemon/packages/tiny.py").exists()
    assert (files / "usr/lib/edge-daemon/packages/edge_daemon/models/bundle.json").exists()


def test_package_creates_the_units_user(files: Path) -> None:
    users = (files / "usr/lib/sysusers.d/edge-daemon.conf").read_text()
    common = (ROOT / "deploy/common.conf").read_text()
    (user,) = re.findall(r"^User=(\S+)", common, re.MULTILINE)
    (group,) = re.findall(r"^SupplementaryGroups=(\S+)", common, re.MULTILINE)
    assert f"u {user} " in users
    assert f"m {user} {group}" in users


def test_package_passes_lintian(package: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("needs lintian")
    words = ("lintian", "--no-cfg", "--allow-root", "--fail-on", "error")
    run(*words, package)


def test_build_script_rejects_unknown_suite(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "deploy/debian/build.sh", "--suite", "sid", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "--suite: invalid value (got sid)" in done.stderr


def test_scripts_pass_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    scripts = ("build.sh", "preinst", "postinst", "prerm", "postrm")
    run(
        "shellcheck", "--external-sources", *(ROOT / "deploy/debian" / script for script in scripts)
    )
