"""The locks fulfil pyproject.toml; a release contains its parts and their checksums."""

import json
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edge_daemon import __version__

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy" / "locks"
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
INSTALLED_EXTRAS = ("metrics", "preview")

PIN = re.compile(r"^([a-z0-9-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)
MADE_WITH_A_CONDITION = re.compile(r"^[a-z].*;", re.MULTILINE)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(file: Path) -> dict[str, str]:
    """Versions by name. A package without a version and checksums is an error."""
    text = file.read_text()
    found = PIN.findall(text)
    assert len(found) == len(re.findall(r"^[^#\s]", text, re.MULTILINE))
    return {name: version for name, version, _ in found}


def unfulfilled(requirements: list[str], locked: dict[str, str], **environment: str) -> list[str]:
    """The applicable requirements that a lock does not fulfil."""
    parsed = map(Requirement, requirements)
    applying = [one for one in parsed if not one.marker or one.marker.evaluate(environment)]
    assert applying
    return [
        str(one)
        for one in applying
        if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"))
    ]


@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
@pytest.mark.parametrize("suite", PYTHONS)
def test_installed_dependencies_are_pinned_within_their_range(suite: str, machine: str) -> None:
    about = project()["project"]
    extras = [one for name in INSTALLED_EXTRAS for one in about["optional-dependencies"][name]]
    environment = {
        "python_version": PYTHONS[suite],
        "python_full_version": f"{PYTHONS[suite]}.2",
        "platform_machine": machine,
    }
    locked = pins(LOCKS / f"{suite}.txt")
    assert unfulfilled([*about["dependencies"], *extras], locked, **environment) == []
    limits = {"bookworm": ["numpy<2"], "trixie": ["numpy>=2"]}
    assert unfulfilled(limits[suite], locked) == []


@pytest.mark.parametrize("name", [*PYTHONS, "build"])
def test_lock_has_no_condition(name: str) -> None:
    assert not MADE_WITH_A_CONDITION.search((LOCKS / f"{name}.txt").read_text())


def test_build_tools_are_locked() -> None:
    requirements = project()["build-system"]["requires"]
    assert unfulfilled(requirements, pins(LOCKS / "build.txt")) == []


def test_release_tools_are_locked() -> None:
    text = (ROOT / "scripts" / "tools.txt").read_text()
    for tool in map(Requirement, project()["dependency-groups"]["release"]):
        pinned = re.search(rf"^{tool.name}==(\S+)", text, re.MULTILINE)
        assert pinned is not None
        assert tool.specifier.contains(pinned[1])


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a release of this source tree."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    done = subprocess.run(
        [ROOT / "scripts" / "release", folder],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.timeout(400)
def test_release_has_wheel_and_source_with_models_and_locks(release: Path) -> None:
    wheel = release / f"edge_daemon-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as contents:
        assert "edge_daemon/models/bundle.json" in contents.namelist()
    with tarfile.open(release / f"edge_daemon-{__version__}.tar.gz") as contents:
        assert f"edge_daemon-{__version__}/deploy/locks/trixie.txt" in contents.getnames()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("suite", PYTHONS)
def test_release_has_sbom_of_each_lock_with_checksums(release: Path, suite: str) -> None:
    sbom = json.loads((release / f"edge_daemon-{__version__}-{suite}.cdx.json").read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    about = sbom["metadata"]["component"]
    assert (about["name"], about["version"]) == ("edge-daemon", __version__)
    lock = LOCKS / f"{suite}.txt"
    assert {part["name"]: part["version"] for part in sbom["components"]} == pins(lock)
    text = lock.read_text()
    for part in sbom["components"]:
        assert part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}"
        (origin,) = part["externalReferences"]
        assert all(checksum["content"] in text for checksum in origin["hashes"])
        assert origin["hashes"]


@pytest.mark.timeout(400)
def test_release_has_the_checksums_of_its_files(release: Path) -> None:
    words = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(words, cwd=release, check=True)
    lines = (release / "SHA256SUMS").read_text().splitlines()
    names = {path.name for path in release.iterdir()} - {"SHA256SUMS"}
    assert {line.split()[1] for line in lines} == names
    assert len(names) == 4
