"""`edge-daemon check`: whether everything a run needs works. `checks_for` is the registry.

The checks run one after another, and each prints a line at once.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import NamedTuple

from edge_daemon._lib.text import masked, printable, without_password
from edge_daemon.commands.check.camera import check_source
from edge_daemon.commands.check.checks import (
    Check,
    Finding,
    Level,
    check_board,
    check_broker,
    check_bundle,
    check_clock,
    check_detector,
    check_runtime,
    check_state_folder,
    check_systemd,
)
from edge_daemon.config.settings import Settings
from edge_daemon.errors import EdgeDaemonError, in_one_line
from edge_daemon.pipeline import in_thread


def checks_for(settings: Settings) -> list[Check]:
    """The checks for these settings, in order."""
    broker = [Check("broker", check_broker, limit_s=25.0)] if settings.sink == "mqtt" else []
    return [
        Check("bundle", check_bundle),
        Check("runtime", check_runtime, limit_s=30.0),
        Check("detector", check_detector),
        Check("source", check_source, limit_s=20.0),
        *broker,
        Check("state", check_state_folder),
        Check("clock", check_clock),
        Check("board", check_board),
        Check("systemd", check_systemd),
    ]


class CheckResult(NamedTuple):
    """The result of a check."""

    check: str
    finding: Finding


def run(settings: Settings, file: Path | None, *, as_json: bool) -> bool:
    """Run all checks.

    Args:
        settings: what a run would use.
        file: the settings file, if there is one.
        as_json: print one object instead of lines.

    Returns:
        Whether no check failed.
    """
    return report(outcomes(settings, file), as_json=as_json)


def refuse(problems: Iterable[str], *, as_json: bool) -> bool:
    """Report invalid settings, without which no check is possible."""
    return report((CheckResult("settings", Finding.fail(it)) for it in problems), as_json=as_json)


def outcomes(settings: Settings, file: Path | None) -> Iterator[CheckResult]:
    source = without_password(settings.source)
    place = file or "no settings file, defaults"
    yield CheckResult("settings", Finding.ok(f"{place}; source {source}, sink {settings.sink}"))
    for check in checks_for(settings):
        yield CheckResult(check.name, finding_of(check, settings))


def finding_of(check: Check, settings: Settings) -> Finding:
    """Run a check; one that exceeds its limit is abandoned in its thread."""
    running = in_thread(f"check-{check.name}", partial(check.run, settings))
    wait([running], check.limit_s)
    if not running.done():
        return Finding.fail(f"no result after {check.limit_s:g} s")
    try:
        return running.result()
    except EdgeDaemonError as error:
        return Finding.fail(masked("; ".join(str(error).splitlines())))
    except Exception as error:  # noqa: BLE001  # a bug must not hide the other results
        return Finding.fail(in_one_line(error))


def report(results: Iterable[CheckResult], *, as_json: bool) -> bool:
    """Print the results; returns whether no check failed."""
    printed = []
    for outcome in results:
        printed.append(outcome)
        if not as_json:
            print(_line(outcome), flush=True)
    fine = all(outcome.finding.level is not Level.FAIL for outcome in printed)
    if as_json:
        checks = [
            {"check": name, "level": finding.level, "message": finding.message}
            for name, finding in printed
        ]
        print(json.dumps({"ok": fine, "checks": checks}, ensure_ascii=False))
    return fine


def _line(outcome: CheckResult) -> str:
    name, finding = outcome
    message = printable(finding.message).removeprefix(f"{name}: ")
    level = "FAIL" if finding.level is Level.FAIL else finding.level
    return f"{level:<4} {name}: {message}"
