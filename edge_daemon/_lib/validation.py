"""Base of models that are read from files, and one-line messages for their errors."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from edge_daemon._lib.files import read_regular
from edge_daemon._lib.text import printable, shortened
from edge_daemon.errors import EdgeDaemonError

MAX_PROBLEMS: Final = 5
"""Problems of one file in a message."""

MAX_TEXT_LENGTH: Final = 4000
"""Characters: a path may have as many (PATH_MAX)."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Share = Annotated[float, Field(ge=0, le=1)]

Value = TypeVar("Value")


def name_of(location: Iterable[str | int]) -> str:
    """Path of a value: keys and indices, joined by dots."""
    return shortened(printable(".".join(map(str, location))))


def plain(value: Value) -> Value:
    """Return the value if it is fit for one line.

    Raises:
        ValueError: a text or path has control characters, or is too long.
    """
    text = str(value) if isinstance(value, str | PurePath) else ""
    if CONTROL.search(text):
        raise ValueError("must not contain control characters")
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f"must have at most {MAX_TEXT_LENGTH} characters")
    return value


class PlainModel(BaseModel):
    """Base of what is read from files; refuses unknown keys and control characters."""

    # Tracebacks include errors, and an input can be a URL with a password.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    @field_validator("*")
    @classmethod
    def _is_plain(cls, value: object) -> object:
        return plain(value)


Model = TypeVar("Model", bound=PlainModel)


def read_json(
    model: type[Model], path: Path, error_type: type[EdgeDaemonError], missing: str | None = None
) -> Model:
    """Read a JSON file.

    Args:
        model: what the file must hold.
        path: the file.
        error_type: type of the error to raise.
        missing: message of the error if there is no such file; None: as for other files.

    Raises:
        EdgeDaemonError: the file is missing or invalid; of the given type.
    """
    try:
        return model.model_validate_json(read_regular(path))
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = missing if is_missing else None
        raise error_type(reason or f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise error_type(f"{path}: {problems(error)}") from error


class Provenance(PlainModel):
    """Origin of a bundled model, to reproduce it."""

    recipe: str
    seed: int
    data_fingerprint: str
    commit: str
    mlflow_run_id: str | None = None


REASONS: Final = {
    "model_type": "must be a section, with its keys below it",
    "missing": "missing",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_type": "must be a whole number",
    "string_type": "must be text",
}
"""Reasons by pydantic's type of an error, where its own message names Python's types."""

DEVICE_ID_PATTERN: Final = r"^[A-Za-z0-9_-]+$"
MAX_DEVICE_ID_LENGTH: Final = 100
"""Characters, since it is part of file names."""
TOPIC_PATTERN: Final = r"^([^+#\x00]*[^+#\x00/])?$"
PATH_PATTERN: Final = r"^/[!-~]*$"

PATTERN_REASONS: Final = {
    DEVICE_ID_PATTERN: "must have only letters, digits, _ and -",
    TOPIC_PATTERN: "must not contain + or #, nor end with /",
    PATH_PATTERN: "must begin with /, and have only printable ASCII, no spaces",
}
"""Reasons by the pattern that a text does not match."""


def is_device_id(name: str) -> bool:
    """Whether a device can have this name."""
    return len(name) <= MAX_DEVICE_ID_LENGTH and bool(re.fullmatch(DEVICE_ID_PATTERN, name))


def reason(details: ErrorDetails) -> str:
    """Why a value is invalid."""
    if details["type"] in REASONS:
        return REASONS[details["type"]]
    pattern = details.get("ctx", {}).get("pattern")
    if pattern in PATTERN_REASONS:
        return PATTERN_REASONS[pattern]
    words = details["msg"].removeprefix("Value error, ")
    _, should, rest = words.partition(" should ")
    return f"must {rest}" if should else words[:1].lower() + words[1:]


def problems(error: ValidationError) -> str:
    """All problems of a file in one line."""
    lines = [
        f"{name_of(details['loc']) or 'the file'}: {reason(details)}"
        for details in error.errors(include_url=False, include_input=False)
    ]
    more = [f"and {len(lines) - MAX_PROBLEMS} more"] if len(lines) > MAX_PROBLEMS else []
    return "; ".join([*lines[:MAX_PROBLEMS], *more])
