import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Program, clean_environment
from running import PATIENCE

from edge_daemon.commands.check import Check, Finding, Level, checks_for, finding_of
from edge_daemon.config.settings import Settings
from edge_daemon.errors import BundleError

SETTINGS = Settings()

LEVELS = ("ok", "warn", "FAIL")


def check_clip(program: Program, clip: Path, *words: object) -> list[str]:
    """The lines of a check with a clip as the source, and without a broker."""
    done = program("check", "--source", clip, "--sink", "jsonl", *words)
    assert done.returncode == (1 if "FAIL" in done.stdout else 0)
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_check_all_passed_prints_a_line_each_and_exits_0(
    program: Program, drawn_clip: Path
) -> None:
    lines = check_clip(program, drawn_clip)
    names = [line[5:].partition(":")[0] for line in lines]
    registered = [check.name for check in checks_for(Settings(sink="jsonl"))]
    assert names == ["settings", *registered]
    assert all(line[:5].rstrip() in LEVELS for line in lines)
    assert not any(line.startswith("FAIL") for line in lines)


@pytest.mark.parametrize(
    ("words", "failing", "expected"),
    [
        (["--source", "absent.mp4"], "source", "no such file, folder or camera (got absent.mp4); "),
        (
            ["--bundle", "absent"],
            "bundle",
            "no bundle.json in this folder (got absent); ",
        ),
        (["--detector", "yunet"], "detector", "models fetch yunet"),
        (["--set", "state_dir=/proc/none"], "state", "state_dir: not writable"),
    ],
)
def test_check_failed_prints_problem_and_hint_and_exits_1(
    program: Program, drawn_clip: Path, words: list[str], failing: str, expected: str
) -> None:
    lines = check_clip(program, drawn_clip, *words)
    (line,) = (line for line in lines if line.startswith(f"FAIL {failing}: "))
    assert expected in line


def test_check_json_matches_the_lines(program: Program, drawn_clip: Path) -> None:
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


def test_check_invalid_settings_are_findings(program: Program) -> None:
    words = ("check", "--set", "mqtt.prot=1", "--threads", "0")
    done = program(*words)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert all(line.startswith("FAIL settings: ") for line in lines)
    assert sorted(line.split(": ")[1] for line in lines) == ["inference.threads", "mqtt.prot"]
    assert json.loads(program(*words, "--json").stdout)["ok"] is False


def test_check_prints_the_settings_file(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('source = "rtsp://me:secret@127.0.0.1:9/1"\nsink = "jsonl"\n')
    done = program("check", EDGE_DAEMON_CONFIG=str(file))
    assert done.stdout.splitlines()[0].startswith(f"ok   settings: {file}; source rtsp://***@")
    assert "secret" not in done.stdout + done.stderr


def test_check_without_mqtt_skips_the_broker() -> None:
    def names(sink: str) -> set[str]:
        settings = Settings.model_validate({"sink": sink})
        return {check.name for check in checks_for(settings)}

    assert names("mqtt") - names("jsonl") == {"broker"}


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_check_hanging_fails_after_its_limit(released: threading.Event) -> None:
    def hang(_settings: Settings) -> Finding:
        released.wait(PATIENCE)
        return Finding.ok("late")

    found = finding_of(Check("slow", hang, limit_s=0.1), SETTINGS)
    assert found == Finding.fail("no result after 0.1 s")


HANGING_CHECK = """
import sys, threading
from edge_daemon import cli
from edge_daemon.commands import check
from edge_daemon.commands.check import Check

hanging = Check("slow", lambda settings: threading.Event().wait(), limit_s=0.1)
check.checks_for = lambda settings: [hanging]
sys.argv = ["edge-daemon", "check", *sys.argv[1:]]
cli.entry_point()
"""


def check_hanging(state: Path, stdout: int) -> "subprocess.CompletedProcess[bytes]":
    """A check that hangs, whose standard output is buffered."""
    return subprocess.run(
        [sys.executable, "-c", HANGING_CHECK, "--json"],
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
        env=clean_environment(state) | {"PYTHONUNBUFFERED": ""},
    )


@pytest.mark.slow
def test_check_json_of_a_hanging_check_is_printed(tmp_path: Path) -> None:
    done = check_hanging(tmp_path, subprocess.PIPE)
    result = json.loads(done.stdout)
    assert (done.returncode, done.stderr, result["ok"]) == (1, b"", False)
    assert [(it["check"], it["level"]) for it in result["checks"]][1:] == [("slow", "fail")]


@pytest.mark.slow
def test_check_json_of_a_hanging_check_without_reader_is_silent(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = check_hanging(tmp_path, writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BundleError("models: damaged"), "models: damaged"),
        (ZeroDivisionError("by accident"), "ZeroDivisionError: by accident"),
    ],
)
def test_check_any_error_is_a_failure_in_one_line(error: Exception, expected: str) -> None:
    def fail(_settings: Settings) -> Finding:
        raise error

    found = finding_of(Check("broken", fail), SETTINGS)
    assert (found.level, found.message) == (Level.FAIL, expected)
