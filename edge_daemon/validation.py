"""pydantic's findings in the words of this program's errors."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def reason(details: ErrorDetails) -> str:
    """Why a value was refused, to follow the value's name and a colon."""
    if details["type"] == "model_type":
        return "must be a section, with its keys below it"
    words = details["msg"].removeprefix("Value error, ")
    _, should, rest = words.partition(" should ")
    return f"must {rest}" if should else words[:1].lower() + words[1:]


def problems(error: ValidationError) -> str:
    """All that is wrong with a file, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, details['loc'])) or 'the file'}: {reason(details)}"
        for details in error.errors()
    )
