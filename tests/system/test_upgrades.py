"""Versions come and go, with packages from a wheelhouse; in the end nothing is left."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from publishing.broker import Mosquitto, subscribed
from running import eventually
from system.box import Box, booted
from system.service import (
    DEVICE,
    INSTALLATION_LIMIT,
    UNIT,
    Service,
    copy_of_source,
    watched,
    wheelhouse,
)

pytestmark = pytest.mark.timeout(2 * INSTALLATION_LIMIT)

OFFLINE = ("--wheelhouse", "/opt/wheelhouse")

SETTINGS = "/etc/edge-daemon/config.toml"

SYSTEM_FOLDERS = ("/etc", "/opt", "/usr/local", "/var/lib", "/var/cache", "/var/log")
OF_THE_SYSTEM = re.compile(
    r"^/var/(lib/(dpkg|systemd|private)|log/journal|cache/(apt|ldconfig|private))"
    r"|^/etc/(machine-id|\.pwd\.lock|(passwd|group|g?shadow|sub[ug]id)-?$)|^/etc/credstore$"
)
"""What a system writes by itself, or for others."""

WORK_FOLDERS = "ls --directory /var/tmp/edge-daemon-install.* 2> /dev/null || true"

KILLED_IN_THE_SWITCH = f"""
/opt/0.1.2/deploy/install.sh --upgrade {" ".join(OFFLINE)} > /dev/null &
until [[ $(readlink /opt/edge-daemon/current) == */0.1.2-* ]]; do kill -0 $! || exit; done
kill -KILL $!
"""

DIES_LATER = """
import os, threading
threading.Timer(5, os._exit, [1]).start()
"""

NEW_SETTING = """
    mirrored: bool = Field(default=False, description="Whether the picture is a mirror's.")
    loop: bool"""


def files(box: Box) -> set[str]:
    """All files and folders where programs leave things."""
    found = box.output_of("find", *SYSTEM_FOLDERS, "-xdev").splitlines()
    return {path for path in found if not OF_THE_SYSTEM.match(path)}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def version(folder: Path, number: str) -> Path:
    """A copy of this source tree that calls itself a later version."""
    edit(copy_of_source(folder) / "edge_daemon/__init__.py", '"0.1.0"', f'"{number}"')
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    versions = {"0.1.0": copy_of_source(folder / "0.1.0")}
    versions |= {number: version(folder / number, number) for number in ("0.1.1", "0.1.2")}
    daemon = versions["0.1.1"] / "edge_daemon/daemon.py"
    daemon.write_text(daemon.read_text() + DIES_LATER)
    edit(versions["0.1.2"] / "edge_daemon/config/settings.py", "\n    loop: bool", NEW_SETTING)
    return versions


@pytest.fixture(scope="module")
def service(
    root: Path,
    clip: Path,
    broker: Mosquitto,
    sources: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    binds = [(source, f"/opt/{number}") for number, source in sources.items()]
    binds += [(clip, "/opt/clip.mp4"), (wheelhouse("bookworm"), "/opt/wheelhouse")]
    with (
        booted(root, tmp_path_factory.mktemp("box"), *binds) as box,
        watched(box, broker) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def before(service: Service) -> set[str]:
    """The files of the box before anything is installed."""
    return files(service.box)


@pytest.fixture
def old(service: Service, before: set[str]) -> Service:
    """The service in its first version."""
    if service.property_of("ActiveState") != "active":
        service.install_for_the_first_time(*OFFLINE, source="/opt/0.1.0")
    assert "/releases/0.1.0-" in current(service)
    return service


def current(service: Service) -> str:
    return service.box.output_of("realpath", "/opt/edge-daemon/current")


def releases(service: Service) -> list[str]:
    names = service.box.output_of("ls", "/opt/edge-daemon/releases").split()
    return [name.partition("-")[0] for name in names]


def test_upgrade_without_installation_fails(service: Service, before: set[str]) -> None:
    code, lines = service.install("--upgrade", source="/opt/0.1.0")
    assert code == 1
    (line,) = lines
    assert line.startswith("install.sh: --upgrade: edge-daemon is not installed")
    assert files(service.box) == before


def test_missing_packages_leave_old_version(old: Service) -> None:
    process = old.process
    old.box.run("mkdir", "-p", "/root/empty")
    words = ("--upgrade", "--wheelhouse", "/root/empty")
    code, lines = old.install(*words, source="/opt/0.1.2")
    assert code == 1
    assert re.match(r"install.sh: cannot install Python packages: ERROR: Could not", lines[-1])
    assert releases(old) == ["0.1.0"]
    assert old.process == process


def test_package_with_other_checksum_leaves_old_version(old: Service) -> None:
    process = old.process
    old.box.run("cp", "--recursive", "/opt/wheelhouse", "/root/altered")
    old.box.run("sh", "-c", 'echo >> "$(ls /root/altered/h11-*.whl)"')
    words = ("--upgrade", "--wheelhouse", "/root/altered")
    code, lines = old.install(*words, source="/opt/0.1.2")
    assert code == 1
    assert "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" in lines[-1]
    assert releases(old) == ["0.1.0"]
    assert old.process == process


def test_version_that_dies_after_a_while_is_rolled_back(old: Service) -> None:
    code, lines = old.install("--upgrade", *OFFLINE, source="/opt/0.1.1")
    assert code == 1
    assert re.match(
        r"install.sh: 0\.1\.1-.* exited \d times(; .+)?; restored 0\.1\.0-\S+, which is running$",
        lines[-1],
    )
    assert releases(old) == ["0.1.0"]
    old.wait_for_results()


def test_rejected_settings_leave_old_version(old: Service) -> None:
    process = old.process
    old.box.run("sed", "--in-place", "s/^#rate = .*/rates = 2/", SETTINGS)
    code, lines = old.install("--upgrade", *OFFLINE, source="/opt/0.1.2")
    assert code == 1
    assert f"this version refuses {SETTINGS}" in lines[-1]
    assert "did you mean mqtt.rate?" in lines[-1]
    assert "/releases/0.1.0-" in current(old)
    assert old.process == process


def test_settings_unreadable_for_service_leave_old_version(old: Service) -> None:
    process = old.process
    old.box.run("sed", "--in-place", "s/^rates = .*/rate = 2/", SETTINGS)
    old.box.run("chmod", "600", SETTINGS)
    code, lines = old.install("--upgrade", *OFFLINE, source="/opt/0.1.2")
    old.box.run("chmod", "640", SETTINGS)
    assert code == 1
    assert f"{SETTINGS}: not readable by the user edge-daemon" in lines[-1]
    assert "/releases/0.1.0-" in current(old)
    assert old.process == process


def test_interrupted_upgrade_goes_back(old: Service) -> None:
    upgrade = ("/opt/0.1.2/deploy/install.sh", "--upgrade", *OFFLINE)
    old.box.run("systemd-run", "--collect", "--unit=upgrade", *upgrade)
    eventually(lambda: "/releases/0.1.2-" in current(old))
    old.box.run("systemctl", "stop", "upgrade")
    assert "/releases/0.1.0-" in current(old)
    assert releases(old) == ["0.1.0"]
    old.wait_until_active()
    old.wait_for_results()


def test_upgrade_whose_output_ends_goes_back(old: Service) -> None:
    """As with `| tee` and Ctrl-C, which also ends the reader."""
    upgrade = ("/opt/0.1.2/deploy/install.sh", "--upgrade", *OFFLINE)
    command = f"{' '.join(upgrade)} | sed '/^switch/q'"
    old.box.run("sh", "-c", command, timeout=INSTALLATION_LIMIT)
    eventually(lambda: "/releases/0.1.0-" in current(old))
    eventually(lambda: releases(old) == ["0.1.0"])
    old.wait_until_active()
    old.wait_for_results()


def test_killed_installer_leaves_nothing_after_next_run(old: Service) -> None:
    box = old.box
    upgrade = ("/opt/0.1.2/deploy/install.sh", "--upgrade", *OFFLINE)
    box.run("systemd-run", "--collect", "--unit=upgrade", *upgrade)
    eventually(lambda: "0.1.2" in releases(old))
    box.run("systemctl", "kill", "--signal=KILL", "upgrade")
    eventually(lambda: not box.succeeds("systemctl", "is-active", "upgrade"))
    assert box.output_of("sh", "-c", WORK_FOLDERS)
    code, _ = old.install("--upgrade", *OFFLINE, source="/opt/0.1.0")
    assert code == 0
    assert box.output_of("sh", "-c", WORK_FOLDERS) == ""
    assert releases(old) == ["0.1.0"]


def test_installer_killed_in_the_switch_is_completed_by_next_run(old: Service) -> None:
    box = old.box
    process = old.process
    box.run("bash", "-c", KILLED_IN_THE_SWITCH, timeout=INSTALLATION_LIMIT)
    assert "/releases/0.1.2-" in current(old)
    assert old.process == process
    code, lines = old.install("--upgrade", *OFFLINE, source="/opt/0.1.2")
    assert code == 0, lines
    assert "/releases/0.1.2-" in box.output_of("cat", f"/proc/{old.process}/cmdline")
    assert not box.succeeds("test", "-e", "/opt/edge-daemon/switching")
    code, lines = old.install("--upgrade", *OFFLINE, source="/opt/0.1.0")
    assert code == 0, lines


def test_upgrade_keeps_settings_and_lists_new_ones(old: Service) -> None:
    settings = old.box.output_of("cat", SETTINGS)
    code, lines = old.install("--upgrade", *OFFLINE, source="/opt/0.1.2")
    assert code == 0, lines
    assert any(line.endswith("config.example.toml: capture.mirrored") for line in lines)
    assert old.box.output_of("cat", SETTINGS) == settings
    assert releases(old) == ["0.1.0", "0.1.2"]
    old.wait_for_results()
    eventually(lambda: "0.1.2" in old.received.payloads(f"{DEVICE}/health")[-1].decode())


def test_going_back_is_a_matter_of_a_symlink(service: Service) -> None:
    release = service.box.output_of("sh", "-c", "echo /opt/edge-daemon/releases/0.1.0-*")
    service.box.run("ln", "-sfn", release, "/opt/edge-daemon/current")
    service.box.run("systemctl", "restart", UNIT)
    service.wait_for_results()
    eventually(lambda: '"0.1.0"' in service.received.payloads(f"{DEVICE}/health")[-1].decode())


def test_uninstalling_keeps_settings_and_state(service: Service) -> None:
    code, _ = service.install("--uninstall", source="/opt/edge-daemon/current")
    assert code == 0
    service.received.wait_until(
        lambda: service.received.payloads(f"{DEVICE}/availability")[-1] == b"offline"
    )
    box = service.box
    assert box.succeeds("test", "-e", SETTINGS)
    assert box.succeeds("test", "-e", f"/var/lib/edge-daemon/events-{DEVICE}.sqlite")
    for path in ("/opt/edge-daemon", "/usr/local/bin/edge-daemon", f"/etc/systemd/system/{UNIT}"):
        assert not box.succeeds("test", "-e", path)


def test_purging_leaves_nothing(service: Service, before: set[str]) -> None:
    code, lines = service.install(*OFFLINE, source="/opt/0.1.0")
    assert code == 0, lines
    with subscribed(service.broker.port, "homeassistant/device") as home:
        described = f"edge_daemon_{DEVICE}/config"
        home.wait_until(lambda: home.payloads(described)[-1:] not in ([], [b""]))
        code, lines = service.install("--purge", source="/opt/edge-daemon/current")
        home.wait_until(lambda: home.payloads(described)[-1] == b"")
    assert code == 0, lines
    assert files(service.box) == before
    assert not service.box.succeeds("id", "edge-daemon")
    assert service.property_of("LoadState") == "not-found"
