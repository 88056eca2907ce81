"""Journal records, received over the journal's own protocol and socket."""

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

import pytest
from conftest import clean_environment

from edge_daemon.monitoring.systemd import is_standard_error, journal_handler

LISTENER = Path(__file__).with_name("journal_listener.py")

NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def sent(code: str) -> tuple[list[dict[str, str]], str]:
    """Run code; return the journal entries it sends, and its standard error."""
    pytest.importorskip("systemd.journal")
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs its own mount namespace")
    setting = """
        import logging
        from edge_daemon.monitoring.systemd import journal_handler
        from edge_daemon._lib.logging import configure_logging
        configure_logging("debug", journal_handler())
        logger = logging.getLogger("edge_daemon.part")
    """
    done = subprocess.run(
        [*NAMESPACE, sys.executable, LISTENER, dedent(setting) + dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=clean_environment(Path("/nonexistent")),
    )
    first, *entries = map(json.loads, done.stdout.splitlines())
    return entries, first["stderr"]


@pytest.mark.slow
def test_record_fields_become_journal_fields() -> None:
    (entry,), stderr = sent("""
        fields = {"event_id": "1bb8", "kind": "appeared", "track_id": 5, "emotion": "happy"}
        logger.info("event", extra=fields | {"sequence": 17, "stage": "publishing"})
    """)
    assert stderr == ""
    own = {
        "EVENT_ID": "1bb8",
        "KIND": "appeared",
        "TRACK_ID": "5",
        "EMOTION": "happy",
        "SEQUENCE": "17",
        "STAGE": "publishing",
    }
    assert entry.items() >= own.items()
    assert entry["MESSAGE"] == (
        "event event_id=1bb8 kind=appeared track_id=5 emotion=happy sequence=17 stage=publishing"
    )
    assert entry["LOGGER"] == "edge_daemon.part"
    assert entry["SYSLOG_IDENTIFIER"] == "edge-daemon"
    assert entry["THREAD_NAME"] == "MainThread"
    assert not [name for name in entry if name != name.upper()]


@pytest.mark.slow
def test_levels_become_priorities() -> None:
    entries, _ = sent("""
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(logger, level)(level)
    """)
    priorities = {entry["MESSAGE"]: entry["PRIORITY"] for entry in entries}
    assert priorities == {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}


@pytest.mark.slow
def test_multi_line_record_is_one_entry() -> None:
    (entry,), _ = sent("""
        try:
            1 / 0
        except ZeroDivisionError:
            logger.exception("it broke", extra={"error": "two\\nlines"})
    """)
    assert entry["MESSAGE"].startswith("it broke error=")
    assert entry["MESSAGE"].endswith("ZeroDivisionError: division by zero")
    assert entry["ERROR"] == "two\nlines"


@pytest.mark.slow
def test_fatal_error_has_error_priority() -> None:
    _, stderr = sent("""
        from edge_daemon import cli
        cli.main(["--sink", "paper"])
    """)
    assert stderr.startswith("<3>edge-daemon: sink: must be")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("stream", [None, "1:1", "nonsense"])
def test_no_handler_without_journal_stream(
    monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if stream is not None:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    assert not is_standard_error()
    assert journal_handler() is None


def test_no_handler_without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryFile("w") as stderr:
        status = os.fstat(stderr.fileno())
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_standard_error()
        monkeypatch.setitem(sys.modules, "systemd.journal", None)
        assert journal_handler() is None


def test_no_handler_without_file_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not is_standard_error()
