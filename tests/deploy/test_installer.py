"""The installer's functions, without a system to install on."""

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
from disks import small_disk

from edge_daemon.config.loading import load_settings
from edge_daemon.config.settings import Settings, leaves
from edge_daemon.errors import SettingsError

DEPLOY = Path(__file__).parents[2] / "deploy"
LIBRARIES = (
    *("output", "answers", "interactive", "system", "service", "release", "settings"),
    "removal",
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def script(*lines: str) -> list[str]:
    """A shell that has the installer's functions and runs these lines."""
    sources = [f"source {DEPLOY}/lib/{name}.sh" for name in LIBRARIES]
    return ["bash", "-c", "\n".join(["set -Eeuo pipefail", f"here={DEPLOY}", *sources, *lines])]


def run(*lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(script(*lines), capture_output=True, text=True, timeout=60, check=False)


def run_in_terminal(answers: str, *lines: str) -> tuple[int, str]:
    """Run lines in a terminal with these answers typed; the exit code and the output."""
    controller, terminal = pty.openpty()
    try:
        os.write(controller, answers.encode())
        with subprocess.Popen(
            script(*lines), stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            output, _ = process.communicate(timeout=60)
    finally:
        os.close(controller)
        os.close(terminal)
    return process.returncode, output.decode()


def variables(output: str) -> dict[str, str]:
    found = re.findall(r"declare -- (\w+)=(.*)\n", output)
    return {name: shlex.split(value)[0] for name, value in found}


DEFAULTS = (
    "dry_run=0 broker_host='' broker_port='' "
    "source_spec='' broker='' username='' password='' device_id='' more_settings=() "
    "credentials=''"
)
REPORT = "declare -p source_spec broker_host broker_port username password device_id"
ANSWERED = {
    "source_spec": "/dev/video7",
    "broker_host": "127.0.0.1",
    "broker_port": "9",
    "username": "porch",
    "password": "se cret",
    "device_id": "front",
}


def test_interactive_answers_become_settings() -> None:
    answers = "/dev/video7\n127.0.0.1:9\nporch\nse cret\nfront\n"
    exit_code, output = run_in_terminal(answers, DEFAULTS, "ask_answers", REPORT)
    assert exit_code == 0, output
    assert variables(output) == ANSWERED
    assert "127.0.0.1:9 does not accept connections" in output


def test_interactive_empty_answer_keeps_default() -> None:
    preset = "source_spec=picamera broker=127.0.0.1 device_id=hall"
    exit_code, output = run_in_terminal("\n" * 4, DEFAULTS, preset, "ask_answers", REPORT)
    assert exit_code == 0, output
    answers = variables(output)
    assert (answers["source_spec"], answers["broker_host"]) == ("picamera", "127.0.0.1")
    assert (answers["username"], answers["device_id"]) == ("", "hall")


def test_interactive_answers_lose_surrounding_spaces() -> None:
    answers = " /dev/video7 \n 127.0.0.1:9\t\n porch \n se cret \n front \n"
    exit_code, output = run_in_terminal(answers, DEFAULTS, "ask_answers", REPORT)
    assert exit_code == 0, output
    assert variables(output) == ANSWERED | {"password": " se cret "}


def test_interactive_user_name_can_be_dropped(tmp_path: Path) -> None:
    program = tmp_path / "bin/edge-daemon"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncase $* in *username*) exit 1 ;; esac\n")
    program.chmod(0o755)
    answers = "/dev/video7\n127.0.0.1:9\nporch\nsecret\nfront\n" + "y\n" + "\n" * 4
    preset = f"release={tmp_path} work={tmp_path}"
    exit_code, output = run_in_terminal(
        answers, DEFAULTS, preset, "ask_answers", "try_answers", REPORT
    )
    assert exit_code == 0, output
    found = variables(output)
    assert (found["username"], found["password"], found["device_id"]) == ("", "", "front")


def test_interactive_invalid_answers_are_asked_again() -> None:
    invalid, valid = "mqtt://broker\n\nfront door\n", "127.0.0.1:9\n\nfront\n"
    exit_code, output = run_in_terminal(f"0\n{invalid}\n{valid}", DEFAULTS, "ask_answers", REPORT)
    assert exit_code == 0, output
    answers = variables(output)
    assert (answers["broker_host"], answers["device_id"]) == ("127.0.0.1", "front")
    (warning,) = [line for line in output.splitlines() if "warning: device_id: " in line]
    assert all(f"{key}: " in warning for key in ("mqtt.host", "device_id"))


def test_interactive_failed_check_asks_again(tmp_path: Path) -> None:
    program = tmp_path / "bin/edge-daemon"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ntest "$#" -gt 7\n')
    program.chmod(0o755)
    answers = "y\n/dev/video7\n127.0.0.1:9\nporch\nsecret\nfront\n"
    preset = f"release={tmp_path} work={tmp_path} broker_host=x broker_port=''"
    exit_code, output = run_in_terminal(answers, DEFAULTS, preset, "try_answers", REPORT)
    assert exit_code == 0, output
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert "mqtt.host=x" in first
    for option in ("source=/dev/video7", "mqtt.port=9", "mqtt.username=porch"):
        assert option in second
    assert "secret" not in second
    assert (tmp_path / "password").stat().st_mode & 0o077 == 0


def test_interactive_failed_check_can_be_cancelled(tmp_path: Path) -> None:
    preset = f"release={tmp_path} work={tmp_path} broker_host=x broker_port=''"
    exit_code, output = run_in_terminal("n\nn\n", DEFAULTS, preset, "try_answers")
    assert exit_code == 1
    assert "install.sh: --interactive: cancelled" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--device-id=front door", "device_id: "),
        ("--broker=mqtt://broker:1883", "mqtt.host: "),
        ("--broker=broker:99999", "mqtt.port: "),
        ("--set=capture.fsp=5", "capture.fsp: unknown setting; did you mean capture.fps?"),
        ("--set=capture.fps=1000", "capture.fps: "),
        ("--set=capture", "--set: must be KEY=VALUE"),
        ("--source=clip.mp4", "--source: "),
        ("--source=/home/pi/clip.mp4", "--source: the service cannot read this folder"),
        ("--source=/tmp/clip.mp4", "--source: the service cannot read this folder"),
        ("--source=/srv/no-such-file.mp4", "--source: no such file"),
    ],
)
def test_invalid_answer_is_refused_before_the_build(option: str, problem: str) -> None:
    done = run("read_answers" + f" {shlex.quote(option)}", "echo continues")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"install.sh: {problem}")


VALUES = (
    *("", "0", "1", "5", "-1", "0.5", "1e3", "640.0", "1_0", "100000", "nan", "inf", "TRUE", "no"),
    *("x", "a b", "/x", "::1", "[::1]", "a:1", "mqtt://a", "tcp", "5", "3.1.1", "90", "\x07", "é"),
)


def test_early_check_refuses_only_what_the_program_refuses() -> None:
    early = run_path(str(DEPLOY / "lib/check_settings.py"))
    schema = json.loads((DEPLOY / "settings.schema.json").read_text(encoding="utf-8"))
    known = dict(early["fields"](schema))
    assert set(known) == {".".join(path) for path, _ in leaves(Settings().model_dump())}
    refused = [
        (name, value)
        for name in known
        for value in VALUES
        if early["problem_of"](f"{name}={value}", known) is not None
    ]
    assert len(refused) > len(known)
    for name, value in refused:
        with pytest.raises(SettingsError):
            load_settings(Path(os.devnull), {}, {tuple(name.split(".")): value})


def test_interactive_without_terminal_fails() -> None:
    done = subprocess.run(
        [DEPLOY / "install.sh", "--interactive", "--dry-run"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("install.sh: --interactive: not a terminal")


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o640), (0o604, 0o600), (0o600, 0o600)])
def test_credentials_readable_by_all_are_protected(
    tmp_path: Path, mode: int, expected: int
) -> None:
    file = tmp_path / "credentials"
    file.write_text("user\npassword\n")
    file.chmod(mode)
    done = run(f"dry_run=0 credentials={file}", "read_credentials", 'echo "$username"')
    assert (done.returncode, done.stdout) == (0, "user\n")
    assert file.stat().st_mode & 0o777 == expected
    assert done.stderr.startswith("install.sh: warning: --credentials: ") == (mode != expected)


def test_credentials_with_carriage_returns_lose_them(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_bytes(b"user\r\npass word \r\n")
    done = run(f"dry_run=1 credentials={file}", "read_credentials", 'echo "$username|$password|"')
    assert done.stdout == "user|pass word |\n"


def test_purge_finds_services_by_their_settings(tmp_path: Path) -> None:
    for name in ("config.toml", "config.example.toml", "yard.toml", "back-door.toml", "notes.txt"):
        (tmp_path / name).touch()
    done = run(f"configuration={tmp_path}", "systemctl() { :; }", "all_services")
    expected = ["edge-daemon", "edge-daemon@back-door", "edge-daemon@yard"]
    assert done.stdout.split() == [f"{name}.service" for name in expected]
    assert run(f"configuration={tmp_path}/none", "systemctl() { :; }", "all_services").stdout == (
        "edge-daemon.service\n"
    )


def test_credentials_without_user_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("\npassword\n")
    done = run(f"dry_run=0 credentials={file}", "read_credentials")
    assert done.returncode == 1
    assert done.stderr.startswith("install.sh: --credentials: no user name in the first line")


@pytest.mark.parametrize("name", ["porch", "dom\\user", 'p"q', "pörch user"])
def test_credentials_match_user_name_in_settings(tmp_path: Path, name: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/edge-daemon").symlink_to(Path(sys.executable).with_name("edge-daemon"))
    (tmp_path / "config.toml").write_text(f"mqtt.username = {json.dumps(name)}\n")
    lines = (f"release={tmp_path} configuration={tmp_path}", f"username={shlex.quote(name)}")
    assert run(*lines, "check_user").returncode == 0
    done = run(*lines, "username+=x", "check_user")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"first set mqtt.username to {name}x" in done.stderr


@needs_root
def test_leftovers_of_killed_run_are_removed(tmp_path: Path) -> None:
    releases = tmp_path / "opt/releases"
    work = tmp_path / "work"
    for folder in ("incomplete", "running", "complete"):
        (releases / folder).mkdir(parents=True)
    (releases / "complete/complete").touch()
    (tmp_path / "opt/current").symlink_to("releases/running")
    for name in ("current.new", "switching.new"):
        (tmp_path / "opt" / name).symlink_to("releases/incomplete")
    (tmp_path / "config.toml.new").touch()
    for folder in ("edge-daemon-install.Ab12Cd", "edge-daemon-install.other", "another"):
        (work / folder / "inner").mkdir(parents=True)
    others = work / "edge-daemon-install.Ef34Gh"
    others.mkdir()
    os.chown(others, 1234, 1234)
    (work / "edge-daemon-install.link12").symlink_to(work / "another")
    done = run(
        f"prefix={tmp_path}/opt current={tmp_path}/opt/current work_folders={work}",
        f"switching={tmp_path}/opt/switching configuration={tmp_path}",
        f"stored_password={tmp_path}/password",
        "remove_leftovers",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in releases.iterdir()} == {"running", "complete"}
    assert {path.name for path in (tmp_path / "opt").iterdir()} == {"releases", "current"}
    assert not (tmp_path / "config.toml.new").exists()
    assert {path.name for path in work.iterdir()} == {
        *("another", "edge-daemon-install.other", "edge-daemon-install.Ef34Gh"),
        "edge-daemon-install.link12",
    }
    assert (work / "another/inner").exists()


def test_long_command_shows_progress(tmp_path: Path) -> None:
    done = run(
        f"log={tmp_path}/log progress_interval=0.2",
        "quietly 'cannot wait' sleep 1.5",
        "echo end",
    )
    assert done.returncode == 0, done.stderr
    *progress, last = done.stdout.splitlines()
    assert last == "end"
    assert progress
    assert all(re.fullmatch(r"  still running after \d+ s", line) for line in progress)


@pytest.mark.parametrize(
    ("lines", "reported"),
    [
        (("ERROR: first", "ERROR: second", "last"), "ERROR: first"),
        (("E: first", "last"), "E: first"),
        (("error: build", "    OSError: disk full", "hint: See above."), "OSError: disk full"),
        (("first", "last"), "last"),
    ],
)
def test_failed_command_reports_its_first_error(
    tmp_path: Path, lines: tuple[str, ...], reported: str
) -> None:
    words = shlex.join(("printf", "%s\n", *lines))
    command = f"sh -c {shlex.quote(words + '; exit 3')}"
    done = run(f"log={tmp_path}/log", f"quietly 'cannot do it' {command}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"install.sh: cannot do it: {reported}; see {tmp_path}/log\n"


@needs_root
def test_settings_unreadable_for_service_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    file.chmod(0o600)
    done = run(f"user=nobody; check_readable {file}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"install.sh: {file}: not readable by the user nobody (got mode 600")


def test_lock_is_in_folder_that_only_root_writes() -> None:
    text = (DEPLOY / "install.sh").read_text()
    (lock,) = re.findall(r"^lock=(\S+)", text, re.MULTILINE)
    assert not Path(lock).parent.stat().st_mode & 0o022


@pytest.mark.slow
def test_release_is_readable_by_the_service_with_a_strict_umask(tmp_path: Path) -> None:
    lines = (
        f"prefix={tmp_path}/opt cache={tmp_path}/cache work={tmp_path}/work log={tmp_path}/log",
        f"release={tmp_path}/opt/releases/1 repository={DEPLOY.parent} unfinished=''",
        "install_python_packages() { touch $release/bin/edge-daemon; }",
        "umask 077",
        "build_release",
    )
    done = run(*lines)
    assert done.returncode == 0, done.stderr
    program = tmp_path / "opt/releases/1/bin/edge-daemon"
    assert program.stat().st_mode & 0o044 == 0o044
    folders = [folder for folder in program.parents if folder.is_relative_to(tmp_path / "opt")]
    assert all(folder.stat().st_mode & 0o055 == 0o055 for folder in folders)


def test_purge_removes_the_devices_of_all_services(tmp_path: Path) -> None:
    program, calls = tmp_path / "program", tmp_path / "calls"
    program.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n')
    program.chmod(0o755)
    (tmp_path / "porch.toml").touch()
    services = "edge-daemon.service edge-daemon@porch.service edge-daemon@unknown.service"
    done = run(
        f"program={program} configuration={tmp_path} work={tmp_path}",
        f"all_services() {{ printf '%s\\n' {services}; }}",
        "leave_home_assistant",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert calls.read_text().splitlines() == [
        "homeassistant remove",
        f"homeassistant remove --config {tmp_path}/porch.toml --set device_id=porch",
    ]


@needs_root
def test_purge_removes_the_changes_to_units(tmp_path: Path) -> None:
    for unit in ("edge-daemon.service", "edge-daemon@.service", "edge-daemon@porch.service"):
        (tmp_path / f"{unit}.d").mkdir()
    other = tmp_path / "other.service.d"
    other.mkdir()
    done = run(
        f"units={tmp_path} configuration={tmp_path}/c state={tmp_path}/s log={tmp_path}/l",
        f"stored_password={tmp_path}/p user=no-such-user",
        "remove_traces",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [*tmp_path.iterdir()] == [other]


@pytest.mark.parametrize("action", ["--upgrade", "--uninstall", "--purge"])
def test_no_action_touches_the_debian_package(tmp_path: Path, action: str) -> None:
    """With a dpkg-query that reports it as installed."""
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf installed\n")
    query.chmod(0o755)
    done = subprocess.run(
        [DEPLOY / "install.sh", "--dry-run", action],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt remove edge-daemon" in done.stderr


def test_package_that_only_others_mention_is_not_in_archive() -> None:
    if shutil.which("apt-cache") is None or run("is_in_archive apt").returncode != 0:
        pytest.skip("needs apt and its package lists")
    assert run("is_in_archive awk").returncode == 1  # virtual: others provide it


def test_machine_with_the_debian_package_is_refused() -> None:
    done = run("dry_run=1", "is_installed() { [[ $1 == edge-daemon ]]; }", "check_rights")
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt remove edge-daemon" in done.stderr


def test_service_active_at_the_deadline_has_the_rest_of_its_time() -> None:
    done = run(
        "stable_s=2 timeout=1",
        "look_at() { now=([ActiveState]=active [MainPID]=7 [NRestarts]=0); }",
        "become_healthy edge-daemon.service",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_release_is_on_disk_before_it_counts_as_complete(tmp_path: Path) -> None:
    done = run(
        f"prefix={tmp_path}/opt cache={tmp_path}/cache work={tmp_path}/work",
        f"release={tmp_path}/opt/releases/1 repository={DEPLOY.parent}",
        "quietly() { mkdir -p $release; }",
        "sync() { [[ ! -e $release/complete ]] && echo synchronised; }",
        "build_release",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "synchronised\n", "")
    assert (tmp_path / "opt/releases/1/complete").exists()


@needs_root
def test_settings_are_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/edge-daemon").symlink_to(Path(sys.executable).with_name("edge-daemon"))
    with small_disk(tmp_path / "etc", "8k") as disk:
        done = run(
            f"release={tmp_path} work={tmp_path} configuration={disk} user=nogroup",
            "more_settings=() source_spec='' device_id='' broker_host=x broker_port='' username=''",
            "write_config",
        )
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert not (disk / "config.toml").exists()


@pytest.mark.parametrize("services", ["", "edge-daemon.service"])
def test_next_steps_state_whether_the_service_runs(services: str) -> None:
    done = run(f"print_next_steps {services}")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("is running" in done.stdout) == bool(services)
    assert ("systemctl start" in done.stdout) == (not services)
