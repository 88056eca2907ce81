"""What is asked of anything that is read, and pydantic's findings in this program's words."""

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from edge_daemon._lib.text import printable, shortened

MOST_TOLD: Final = 5
"""Problems of one file."""

LONGEST_TEXT: Final = 4000
"""Characters: a path may have as many (PATH_MAX)."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Share = Annotated[float, Field(ge=0, le=1)]

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


class PlainModel(BaseModel):
    """Base of what is read from files: unknown keys and texts of several lines are refused."""

    # Tracebacks show errors, and an input may be an address with a password.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    @field_validator("*")
    @classmethod
    def _is_plain(cls, value: object) -> object:
        return plain(value)


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
