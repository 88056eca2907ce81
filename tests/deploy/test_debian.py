"""The Debian package, built from a lock with one small package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment
from deploy.package import ROOT, build_package, run

from edge_daemon import __version__


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    maintainer = {"DEBFULLNAME": "A. Maintainer", "DEBEMAIL": "maintainer@debian.org"}
    return build_package(tmp_path_factory.mktemp("debian"), **maintainer)


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
