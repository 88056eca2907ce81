"""pydantic's findings in the words of this program's errors, and what no text may hold."""

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge_daemon.text import printable, shortened

MOST_TOLD: Final = 5
"""Problems of one file."""

LONGEST_TEXT: Final = 4000
"""Characters: a path may have as many (PATH_MAX)."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Value = TypeVar("Value")


def name_of(location: Iterable[str | int]) -> str:
    """Where a value stands: keys and numbers, joined by dots."""
    return shortened(printable(".".join(map(str, location))))


def plain(value: Value) -> Value:
    """The value, if a text in it, or a path, fits into a line.

    Raises:
        ValueError: it does not.
    """
    text = str(value) if isinstance(value, str | PurePath) else ""
    if CONTROL.search(text):
        raise ValueError("must hold no control characters")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"must have at most {LONGEST_TEXT} characters")
    return value


def reason(details: ErrorDetails) -> str:
    """Why a value was refused, to follow the value's name and a colon."""
    if details["type"] == "model_type":
        return "must be a section, with its keys below it"
    words = details["msg"].removeprefix("Value error, ")
    _, should, rest = words.partition(" should ")
    return f"must {rest}" if should else words[:1].lower() + words[1:]


def problems(error: ValidationError) -> str:
    """All that is wrong with a file, in one line."""
    told = [
        f"{name_of(details['loc']) or 'the file'}: {reason(details)}"
        for details in error.errors(include_url=False, include_input=False)
    ]
    more = [f"and {len(told) - MOST_TOLD} more"] if len(told) > MOST_TOLD else []
    return "; ".join([*told[:MOST_TOLD], *more])
