"""The service, installed with packages from the network, through what befalls it in its life."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from publishing.broker import Mosquitto
from system.box import booted
from system.service import DEVICE, INSTALLATION_LIMIT, UNIT, Service, copy_of_source, watched

pytestmark = pytest.mark.timeout(2 * INSTALLATION_LIMIT)

WATCHDOG = 6
"""Seconds. The service's own 30 would make the tests long."""

HANGING = """
import time
from pathlib import Path
from edge_daemon.inference.recognizer import EmotionRecognizer

recognize = EmotionRecognizer.__call__

def hang_while_told_to(self, found):
    while Path("/run/hang").exists():
        time.sleep(0.1)
    return recognize(self, found)

EmotionRecognizer.__call__ = hang_while_told_to
"""
"""Python reads it at every start, and a stage hangs from then on, whenever a file is there."""


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What the installer said."""
    return []


@pytest.fixture(scope="module")
def service(
    root: Path,
    clip: Path,
    broker: Mosquitto,
    printed: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    source = copy_of_source(tmp_path_factory.mktemp("source"))
    binds = ((source, "/opt/source"), (clip, "/opt/clip.mp4"))
    with (
        booted(root, tmp_path_factory.mktemp("box"), *binds) as box,
        watched(box, broker) as service,
    ):
        unit = f"/etc/systemd/system/{UNIT}.d/50-test.conf"
        box.write(unit, f"[Service]\nWatchdogSec={WATCHDOG}\n")
        code, lines = service.install_for_the_first_time()
        assert code == 0, lines
        printed += lines
        yield service


def test_installer_says_what_it_does_and_finds(service: Service, printed: list[str]) -> None:
    text = "\n".join(printed)
    assert "make the user edge-daemon" in text
    assert re.search(r"^ok +source: /opt/clip.mp4: gives pictures of 320x240$", text, re.MULTILINE)
    assert re.search(r"^ok +broker: 127.0.0.1:\d+: takes what we publish", text, re.MULTILINE)
    assert "edge-daemon runs." in text
    assert "FAIL" not in text


def test_results_arrive_from_the_moment_it_is_ready(service: Service) -> None:
    assert service.says("ActiveState") == "active"
    assert "fps" in service.says("StatusText")
    service.wait_for_results()
    assert service.heard.payloads(f"{DEVICE}/availability")[-1] == b"online"


def test_it_is_an_own_user_and_its_secrets_are_its_own(service: Service) -> None:
    box = service.box
    assert box.says("ps", "-o", "user=", "-p", service.process) == "edge-da+"
    assert (
        box.says("stat", "-c", "%a %U:%G", "/etc/edge-daemon/config.toml") == "640 root:edge-daemon"
    )
    assert box.says("stat", "-c", "%a %U", "/etc/credstore/edge-daemon.mqtt-password") == "600 root"
    assert box.says("stat", "-c", "%a %U", "/var/lib/edge-daemon") == "700 edge-daemon"
    assert not box.succeeds("grep", "-r", "sesame", "/etc/edge-daemon", "/var/lib/edge-daemon")


def test_exposure_is_low_and_the_units_are_sound(service: Service) -> None:
    said = service.box.says("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1]
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    print(said)
    assert float(found[1]) <= 2.0
    assert service.box.says("systemd-analyze", "verify", UNIT, "edge-daemon@one.service") == ""
