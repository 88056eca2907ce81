"""Runs the checks one after another, and prints a line for each as it comes."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import NamedTuple

from edge_daemon._lib.text import printable, without_password
from edge_daemon.commands.check import Check, checks_for
from edge_daemon.commands.check.finding import Finding, Level
from edge_daemon.config.settings import Settings
from edge_daemon.errors import EdgeDaemonError, in_one_line
from edge_daemon.pipeline import in_thread


class Outcome(NamedTuple):
    """What a check found."""

    check: str
    finding: Finding


def run(settings: Settings, file: Path | None, *, as_json: bool) -> bool:
    """Look at everything.

    Args:
        settings: what a run would use.
        file: where they come from, if from a file.
        as_json: print one object instead of lines.

    Returns:
        Whether nothing stands in the way of a run.
    """
    return tell(outcomes(settings, file), as_json=as_json)


def refuse(problems: Iterable[str], *, as_json: bool) -> bool:
    """Tell that the settings are wrong, without which nothing can be looked at."""
    return tell((Outcome("settings", Finding.fail(it)) for it in problems), as_json=as_json)


def outcomes(settings: Settings, file: Path | None) -> Iterator[Outcome]:
    source = without_password(settings.source)
    place = file or "the defaults, as there is no file"
    yield Outcome("settings", Finding.ok(f"{place}; source {source}, sink {settings.sink}"))
    for check in checks_for(settings):
        yield Outcome(check.name, finding_of(check, settings))


def finding_of(check: Check, settings: Settings) -> Finding:
    """What a check finds; one that takes too long is left behind in its thread."""
    looking = in_thread(f"check-{check.name}", partial(check.look, settings))
    wait([looking], check.limit)
    if not looking.done():
        return Finding.fail(f"no answer for {check.limit:g} s")
    try:
        return looking.result()
    except EdgeDaemonError as error:
        return Finding.fail("; ".join(str(error).splitlines()))
    except Exception as error:  # noqa: BLE001  # a bug of ours must not hide the other findings
        return Finding.fail(in_one_line(error))


def tell(found: Iterable[Outcome], *, as_json: bool) -> bool:
    """Print the outcomes; whether none is a failure."""
    told = []
    for outcome in found:
        told.append(outcome)
        if not as_json:
            print(_line(outcome), flush=True)
    fine = all(outcome.finding.level is not Level.FAIL for outcome in told)
    if as_json:
        checks = [
            {"check": name, "level": finding.level, "message": finding.message}
            for name, finding in told
        ]
        print(json.dumps({"ok": fine, "checks": checks}, ensure_ascii=False))
    return fine


def _line(outcome: Outcome) -> str:
    name, finding = outcome
    level = "FAIL" if finding.level is Level.FAIL else finding.level
    return f"{level:<4} {name}: {printable(finding.message)}"
