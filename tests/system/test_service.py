"""The service, installed with packages from the network, and what befalls it in a long life."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from publishing.broker import Mosquitto, subscribed
from running import eventually
from system.box import booted
from system.service import DEVICE, GUEST, INSTALLATION_LIMIT, UNIT, Service, copy_of_source, watched

pytestmark = pytest.mark.timeout(2 * INSTALLATION_LIMIT)

WATCHDOG = 6
"""Seconds. The service's own 30 would make the tests long."""

MAX_EXPOSURE = 2.0

RESTART_LIMIT = 20.0  # about 3 s on a machine without other work
"""Seconds from a sudden death to the first result."""

SECOND = "second"
"""An instance of the unit's template."""

HANGING = """
import time
from pathlib import Path
from edge_daemon.inference.step import EmotionRecognizer

recognize = EmotionRecognizer.__call__

def hang_while_file_exists(self, found):
    while Path("/opt/edge-daemon/hang").exists():
        time.sleep(0.1)
    return recognize(self, found)

EmotionRecognizer.__call__ = hang_while_file_exists
"""
"""With this, which Python runs at its start, a stage hangs for as long as a file is there."""


@pytest.fixture(scope="module")
def service(
    root: Path, clip: Path, broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    source = copy_of_source(tmp_path_factory.mktemp("source"))
    binds = ((source, "/opt/source"), (clip, "/opt/clip.mp4"))
    with (
        booted(root, tmp_path_factory.mktemp("box"), *binds) as box,
        watched(box, broker) as service,
    ):
        own = f"/etc/systemd/system/{UNIT}.d/50-test.conf"
        box.write(own, f"[Service]\nWatchdogSec={WATCHDOG}\n")
        yield service


@pytest.fixture(scope="module")
def installed(service: Service) -> list[str]:
    """What the installer printed."""
    return service.install_for_the_first_time()


@pytest.fixture
def running(service: Service, installed: list[str]) -> Iterator[Service]:
    """The service; each test must leave it at work."""
    yield service
    service.wait_for_results()


def test_dry_run_changes_nothing(service: Service) -> None:
    code, lines = service.install("--dry-run", "--source", "/opt/clip.mp4")
    assert code == 0, lines
    assert all(line.startswith("would ") for line in lines)
    assert any("/etc/edge-daemon/config.toml" in line for line in lines)
    for path in ("/opt/edge-daemon", "/etc/edge-daemon", "/var/log/edge-daemon-install.log"):
        assert not service.box.succeeds("test", "-e", path)
    assert not service.box.succeeds("id", "edge-daemon")


def test_installer_prints_findings_and_next_steps(running: Service, installed: list[str]) -> None:
    text = "\n".join(installed)
    assert re.search(r"^ok +source: /opt/clip.mp4: gives frames of 320x240$", text, re.MULTILINE)
    assert re.search(r"^ok +broker: 127\.0\.0\.1:\d+:", text, re.MULTILINE)
    assert "FAIL" not in text
    assert "journalctl --unit=edge-daemon" in text


def test_service_is_ready_and_its_results_arrive(running: Service) -> None:
    assert running.property_of("ActiveState") == "active"
    running.received.wait_until(
        lambda: running.received.payloads(f"{DEVICE}/availability")[-1:] == [b"online"]
    )
    eventually(lambda: "source running" in running.property_of("StatusText"))


def test_second_installation_changes_nothing(running: Service) -> None:
    before = running.process
    code, lines = running.install()
    assert (code, running.process) == (0, before)
    assert [line for line in lines if "is installed and running" in line] == lines[-1:]


def test_command_of_root_takes_its_arguments_literally(running: Service) -> None:
    name = "a${HOME}$$b"
    words = ("edge-daemon", "config", "--set", f"mqtt.username={name}")
    assert f'username = "{name}"' in running.box.output_of(*words)


def test_command_of_root_runs_in_the_current_folder(running: Service) -> None:
    command = "cd /etc/edge-daemon && edge-daemon config --config config.toml"
    assert f'device_id = "{DEVICE}"' in running.box.output_of("sh", "-c", command)


@pytest.mark.parametrize("sent", ["INT", "TERM", "HUP"])
def test_command_of_root_ends_with_a_signal(running: Service, sent: str) -> None:
    """Its output is no terminal."""
    command = "edge-daemon run --source /opt/clip.mp4 --set capture.loop=true --sink jsonl"
    lines = running.box.output_of(
        *("sh", "-c", f"timeout --signal={sent} 5 {command} > /root/lines; wc -l < /root/lines")
    )
    assert int(lines.split()[-1]) > 0
    listed = ("systemctl", "list-units", "--plain", "--no-legend", "--state=running,activating")
    assert "--sink jsonl" not in running.box.output_of(*listed, "--type=service")


def test_installer_needs_no_sbin_in_the_path(running: Service) -> None:
    """As after `su` without a hyphen."""
    words = ("env", "PATH=/usr/local/bin:/usr/bin:/bin", "/opt/source/deploy/install.sh")
    done = running.box.run(*words, timeout=INSTALLATION_LIMIT)
    assert "is installed and running" in done.stdout


def test_password_of_user_not_in_settings_is_refused(running: Service) -> None:
    before = running.process
    running.box.write("/root/others", "other\nsecret\n")
    code, lines = running.install("--credentials", "/root/others")
    message = "--credentials: first set mqtt.username to other in /etc/edge-daemon/config.toml"
    assert (code, lines[-1]) == (1, f"install.sh: {message}")
    assert running.box.succeeds("grep", "-q", "sesame", "/etc/credstore/edge-daemon.mqtt-password")
    assert running.process == before


def test_only_service_user_reads_its_secrets(running: Service) -> None:
    def rights(path: str) -> str:
        return running.box.output_of("stat", "--format=%a %U:%G", path)

    assert rights(f"/proc/{running.process}").endswith("edge-daemon:edge-daemon")
    assert rights("/etc/edge-daemon/config.toml") == "640 root:edge-daemon"
    assert rights("/etc/credstore/edge-daemon.mqtt-password") == "600 root:root"
    assert rights("/var/lib/edge-daemon") == "700 edge-daemon:edge-daemon"
    assert not running.box.succeeds("grep", "-rq", "sesame", "/etc/edge-daemon", "/var/log")


def test_exposure_is_low_and_the_units_are_sound(running: Service) -> None:
    *_, last = running.box.output_of("systemd-analyze", "security", "--no-pager", UNIT).splitlines()
    found = re.search(r"exposure level for \S+: ([\d.]+)", last)
    assert found is not None, last
    print(last)
    assert float(found[1]) <= MAX_EXPOSURE
    assert running.box.output_of("systemd-analyze", "verify", UNIT, "edge-daemon@one.service") == ""


def test_killed_service_is_back_soon(running: Service) -> None:
    before = running.process
    died = time.monotonic()
    running.box.run("kill", "-KILL", before)
    running.wait_for_results()
    seconds = time.monotonic() - died
    print(f"kill -9: results again after {seconds:.1f} s")
    assert running.process != before
    assert seconds < RESTART_LIMIT


def test_process_that_stands_still_is_replaced(running: Service) -> None:
    before = running.process
    running.box.run("kill", "-STOP", before)
    stopped = time.monotonic()
    eventually(lambda: running.process not in {before, "0"})
    running.wait_for_results()
    print(f"SIGSTOP: results again after {time.monotonic() - stopped:.1f} s")
    assert "atchdog timeout" in running.log()


def test_stage_that_hangs_has_the_process_replaced(running: Service) -> None:
    box = running.box
    packages = box.output_of("sh", "-c", "echo /opt/edge-daemon/current/lib/python3*/site-packages")
    box.write(f"{packages}/hanging.py", HANGING)
    box.write(f"{packages}/hanging.pth", "import hanging\n")
    box.run("systemctl", "restart", UNIT)
    running.wait_for_results()
    before = running.process
    box.run("touch", "/opt/edge-daemon/hang")
    hung = time.monotonic()
    eventually(lambda: running.process not in {before, "0"})
    print(f"hanging stage: another process after {time.monotonic() - hung:.1f} s")
    log = running.log()
    assert "stage hangs, withholding" in log
    assert "hanging.py" in log.partition("stage hangs, withholding")[2], "the stacks are not there"
    box.run("rm", "/opt/edge-daemon/hang", f"{packages}/hanging.py", f"{packages}/hanging.pth")
    box.run("systemctl", "restart", UNIT)


def test_restarted_broker_receives_results_again(running: Service) -> None:
    before = running.process
    running.broker.stop()
    eventually(lambda: "broker disconnected" in running.property_of("StatusText"))
    running.broker.start()
    running.received.wait_until(running.received.listening.is_set)
    running.wait_for_results()
    assert running.process == before


def test_journal_is_found_by_its_fields(running: Service) -> None:
    def entries(*words: str) -> list[dict[str, str]]:
        text = running.log("--output=json", *words)
        return [json.loads(line) for line in text.splitlines()]

    (entry, *_) = entries("KIND=appeared")
    found = entries(f"TRACK_ID={entry['TRACK_ID']}", f"EVENT_ID={entry['EVENT_ID']}")
    assert [one["MESSAGE"] for one in found] == [entry["MESSAGE"]]
    assert entries("TRACK_ID=no such") == []


def test_reload_takes_settings_over_without_a_restart(running: Service) -> None:
    before = running.process
    file = "/etc/edge-daemon/config.toml"
    running.box.run("sed", "--in-place", "s/^#log_level = .*/log_level = 'debug'/", file)
    running.box.run("systemctl", "reload", UNIT)
    eventually(lambda: "log_level" in running.log("--lines=20"))
    assert running.process == before
    running.box.run("sed", "--in-place", "s/^log_level = .*/log_level = 'loud'/", file)
    running.box.run("systemctl", "reload", UNIT)
    eventually(lambda: "'loud'" in running.log("--lines=20"))
    assert running.process == before
    running.box.run("sed", "--in-place", "s/^log_level = .*/log_level = 'info'/", file)
    running.box.run("systemctl", "reload", UNIT)


def test_template_runs_a_second_camera(running: Service) -> None:
    box = running.box
    folder = "/etc/edge-daemon"
    words = (
        "--mode=640",
        "--group=edge-daemon",
        f"{folder}/config.toml",
        f"{folder}/{SECOND}.toml",
    )
    box.run("install", *words)
    box.run("systemctl", "enable", "--now", f"edge-daemon@{SECOND}")
    running.wait_for_results(SECOND)
    running.wait_for_results(DEVICE)
    assert running.property_of("WatchdogUSec", f"edge-daemon@{SECOND}") == "30s"
    assert box.succeeds("test", "-e", f"/var/lib/edge-daemon/{SECOND}/events-{SECOND}.sqlite")


def test_instance_without_login_ignores_the_stored_password(running: Service) -> None:
    box = running.box
    port = running.broker.port
    settings = f"source = '/opt/clip.mp4'\ncapture.loop = true\nmqtt.port = {port}\n"
    file = f"/etc/edge-daemon/{GUEST}.toml"
    box.write(file, settings)
    box.run("systemctl", "start", f"edge-daemon@{GUEST}")
    running.wait_for_results(GUEST)
    lines = box.output_of("edge-daemon", "check", "--config", file).splitlines()
    assert f"ok   state: /var/lib/edge-daemon/{GUEST}" in "\n".join(lines)
    box.run("systemctl", "stop", f"edge-daemon@{GUEST}")
    with subscribed(port, "homeassistant/device") as home:
        described = f"edge_daemon_{GUEST}/config"
        home.wait_until(lambda: bool(home.payloads(described)))
        box.run("edge-daemon", "homeassistant", "remove", "--config", file)
        home.wait_until(lambda: home.payloads(described)[-1] == b"")


def test_command_of_root_has_the_environments_settings(running: Service) -> None:
    words = ("env", "EDGE_DAEMON_MQTT__USERNAME=a b$$c", "edge-daemon", "config")
    assert 'username = "a b$$c"' in running.box.output_of(*words)


def test_reboot_with_missing_camera_starts_other_services(running: Service) -> None:
    box = running.box
    settings = f"source = '/dev/video9'\nmqtt.username = '{DEVICE}'\n"
    box.write("/etc/edge-daemon/blind.toml", settings)
    box.run("systemctl", "enable", "edge-daemon@blind")
    began = time.monotonic()
    box.reboot()
    assert "0 loaded units" in box.output_of("systemctl", "list-units", "--failed", "edge-daemon*")
    running.wait_for_results(SECOND)
    running.wait_for_results(DEVICE)
    print(f"reboot: results again after {time.monotonic() - began:.1f} s")
    assert running.property_of("ActiveState", "edge-daemon@blind.service") == "activating"
