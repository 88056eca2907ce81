import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Program
from running import PATIENCE

from edge_daemon.commands.check import checks_for, finding_of
from edge_daemon.commands.check.checks import Check, Finding, Level
from edge_daemon.config.settings import Settings
from edge_daemon.errors import BundleError

SETTINGS = Settings()

LEVELS = ("ok", "warn", "FAIL")


def of_a_file(program: Program, clip: Path, *words: object) -> list[str]:
    """What is said of a run that plays a clip and needs no broker."""
    done = program("check", "--source", clip, "--sink", "jsonl", *words)
    assert done.returncode == (1 if "FAIL" in done.stdout else 0)
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_each_check_is_a_line_and_all_being_well_is_exit_code_0(
    program: Program, drawn_clip: Path
) -> None:
    lines = of_a_file(program, drawn_clip)
    names = [line[5:].partition(":")[0] for line in lines]
    registered = [check.name for check in checks_for(Settings(sink="jsonl"))]
    assert names == ["settings", *registered]
    assert all(line[:5].rstrip() in LEVELS for line in lines)
    assert not any(line.startswith("FAIL") for line in lines)


@pytest.mark.parametrize(
    ("words", "failing", "told"),
    [
        (["--source", "absent.mp4"], "source", "absent.mp4: no such file"),
        (["--bundle", "absent"], "bundle", "absent/bundle.json: cannot be read"),
        (["--detector", "yunet"], "detector", "models fetch yunet"),
        (["--set", "state_dir=/proc/none"], "state", "state_dir: not writable"),
    ],
)
def test_what_stands_in_the_way_is_told_with_its_mend_and_exit_code_1(
    program: Program, drawn_clip: Path, words: list[str], failing: str, told: str
) -> None:
    lines = of_a_file(program, drawn_clip, *words)
    (line,) = (line for line in lines if line.startswith(f"FAIL {failing}: "))
    assert told in line


def test_json_says_the_same_as_the_lines(program: Program, drawn_clip: Path) -> None:
    words = ("check", "--source", drawn_clip, "--sink", "jsonl", "--bundle", "absent")
    done = program(*words, "--json")
    content = json.loads(done.stdout)
    assert (done.returncode, content["ok"]) == (1, False)
    levels = {check["check"]: check["level"] for check in content["checks"]}
    assert levels["bundle"] == "fail"
    assert levels["source"] == "ok"
    lines = program(*words).stdout.splitlines()
    assert len(lines) == len(levels)
    assert f"FAIL bundle: {content['checks'][1]['message']}" in lines


def test_wrong_settings_are_findings_too(program: Program) -> None:
    words = ("check", "--set", "mqtt.prot=1", "--threads", "0")
    done = program(*words)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert all(line.startswith("FAIL settings: ") for line in lines)
    assert sorted(line.split(": ")[1] for line in lines) == ["inference.threads", "mqtt.prot"]
    assert json.loads(program(*words, "--json").stdout)["ok"] is False


def test_the_file_that_settings_come_from_is_named(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('source = "rtsp://me:secret@127.0.0.1:9/1"\nsink = "jsonl"\n')
    done = program("check", EDGE_DAEMON_CONFIG=str(file))
    assert done.stdout.splitlines()[0].startswith(f"ok   settings: {file}; source rtsp://***@")
    assert "secret" not in done.stdout + done.stderr


def test_without_mqtt_the_broker_is_not_looked_at() -> None:
    def names(sink: str) -> set[str]:
        settings = Settings.model_validate({"sink": sink})
        return {check.name for check in checks_for(settings)}

    assert names("mqtt") - names("jsonl") == {"broker"}


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_check_that_hangs_is_given_up(released: threading.Event) -> None:
    def hang(_settings: Settings) -> Finding:
        released.wait(PATIENCE)
        return Finding.ok("late")

    found = finding_of(Check("slow", hang, limit_s=0.1), SETTINGS)
    assert found == Finding.fail("no result after 0.1 s")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BundleError("models: damaged"), "models: damaged"),
        (ZeroDivisionError("by accident"), "ZeroDivisionError: by accident"),
    ],
)
def test_error_of_any_kind_is_a_failure_in_one_line(error: Exception, told: str) -> None:
    def fail(_settings: Settings) -> Finding:
        raise error

    found = finding_of(Check("broken", fail), SETTINGS)
    assert (found.level, found.message) == (Level.FAIL, told)
