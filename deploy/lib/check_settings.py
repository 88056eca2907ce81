#!/usr/bin/env python3
"""Checks settings by their JSON Schema, before the program and its packages are installed.

Usage: check_settings.py SCHEMA KEY=VALUE...

Prints a line for each problem. Exit codes: 0 valid, 1 invalid. What the schema does not cover, such
as lists of regions, the program itself checks later.
"""

import contextlib
import difflib
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

BOOLEANS: Final = ("0", "off", "f", "false", "n", "no", "1", "on", "t", "true", "y", "yes")
"""Accepted by the program, in any case."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

NOT_IN_HOSTS: Final = re.compile(r"[/@?#]|\]:|^[^:]*:[^:]*$")
"""In a broker's URL, or its name with a port; an IPv6 address has several colons."""

PATTERN_REASONS: Final = {"^[A-Za-z0-9_-]+$": "must have only letters, digits, _ and -"}

Schema = Mapping[str, Any]


def fields(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """All settings, as SECTION.KEY, and their schemas."""
    for name, field in schema["properties"].items():
        if "$ref" in field:
            section = schema["$defs"][field["$ref"].rpartition("/")[2]]
            yield from ((f"{name}.{key}", inner) for key, inner in section["properties"].items())
        else:
            yield name, field


def problem_of(word: str, known: Mapping[str, Schema]) -> str | None:
    """Why a word is not a valid setting; None if it is."""
    name, equals, value = word.partition("=")
    if not equals:
        return f"--set: must be KEY=VALUE, such as mqtt.host=broker.local (got {word})"
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        return f"{name}: unknown setting" + "".join(f"; did you mean {key}?" for key in near)
    if name == "mqtt.host" and NOT_IN_HOSTS.search(value):
        return f"{name}: must be a host name or an IP address, without scheme, port or login"
    field = known[name]
    options = [one for one in field.get("anyOf", [field]) if one["type"] != "null"]
    reason = reason_against(value, options[0])
    return reason and f"{name}: {reason} (got '{value}')"


def reason_against(value: str, field: Schema) -> str | None:
    """Why a value does not match its schema; None if it does."""
    if CONTROL.search(value):
        return "must not contain control characters"
    if "enum" in field:
        choices = list(map(str, field["enum"]))
        return None if value in choices else f"must be {' or '.join(choices)}"
    match field["type"]:
        case "boolean":
            return None if value.lower() in BOOLEANS else "must be true or false"
        case "integer" | "number":
            return reason_against_number(value, field)
        case "string":
            return reason_against_text(value, field)
    return None


def reason_against_number(value: str, field: Schema) -> str | None:
    number = math.nan
    with contextlib.suppress(ValueError):
        number = float(value)
    is_whole = field["type"] == "integer"
    if not math.isfinite(number) or (is_whole and not number.is_integer()):
        return f"must be a {'whole ' if is_whole else ''}number"
    if not field.get("minimum", -math.inf) <= number <= field.get("maximum", math.inf):
        return f"must be from {field['minimum']} to {field['maximum']}"
    return None


def reason_against_text(value: str, field: Schema) -> str | None:
    if not field.get("minLength", 0) <= len(value) <= field.get("maxLength", math.inf):
        return f"must have {field.get('minLength', 0)} to {field.get('maxLength', 4000)} characters"
    if not re.search(field.get("pattern", ""), value):
        return PATTERN_REASONS.get(field["pattern"], f"must match {field['pattern']}")
    return None


def main() -> int:
    """Check the settings on the command line and return the exit code."""
    file, *words = sys.argv[1:]
    known = dict(fields(json.loads(Path(file).read_text(encoding="utf-8"))))
    problems = [problem for word in words if (problem := problem_of(word, known))]
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
