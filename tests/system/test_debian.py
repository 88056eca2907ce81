"""The Debian package in a system, with a program that never finds its camera."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from deploy.package import build_package
from system.box import Box, booted

INSTANCE: Final = "edge-daemon@yard.service"

PROGRAM: Final = """#!/bin/sh
case $1 in
    config) echo 'source = "picamera"' ;;
    run) exec sleep infinity ;;
esac
"""
"""Not ready at any time, as without a camera."""


@pytest.fixture
def box(root: Path, tmp_path: Path) -> Iterator[Box]:
    """A machine with the package, two of its services enabled, and python3-systemd."""
    (tmp_path / "built").mkdir()
    (tmp_path / "box").mkdir()
    package = build_package(tmp_path / "built", PROGRAM)
    with booted(root, tmp_path / "box", (package, "/opt/edge-daemon.deb")) as box:
        box.run("dpkg", "--install", "/opt/edge-daemon.deb")
        box.run("systemctl", "enable", "edge-daemon.service", INSTANCE)
        box.run("systemctl", "start", "--no-block", "edge-daemon.service", INSTANCE)
        yield box


def process(box: Box) -> str:
    return box.output_of("systemctl", "show", INSTANCE, "--property=MainPID", "--value")


def test_upgrade_does_not_wait_for_a_camera(box: Box) -> None:
    before = process(box)
    box.run("dpkg", "--install", "/opt/edge-daemon.deb", timeout=30)
    assert box.output_of("dpkg-query", "--show", "--showformat=${Status}", "edge-daemon") == (
        "install ok installed"
    )
    assert process(box) not in {before, "0"}


def test_removal_disables_all_services(box: Box) -> None:
    box.run("dpkg", "--remove", "edge-daemon")
    assert box.output_of("find", "/etc/systemd/system", "-name", "edge-daemon*") == ""
    assert process(box) == "0"


def test_purge_keeps_the_settings_of_a_later_installation(box: Box) -> None:
    box.run("dpkg", "--remove", "edge-daemon")
    box.run("mkdir", "--parents", "/opt/edge-daemon/current")
    box.run("dpkg", "--purge", "edge-daemon")
    assert box.succeeds("test", "-e", "/etc/edge-daemon/config.toml")


def test_purge_removes_settings_and_state(box: Box) -> None:
    box.run("dpkg", "--purge", "edge-daemon")
    for path in ("/etc/edge-daemon", "/var/lib/edge-daemon", "/usr/lib/edge-daemon"):
        assert not box.succeeds("test", "-e", path)
