"""pydantic's findings in the words of this program's errors."""

from pydantic_core import ErrorDetails


def reason(details: ErrorDetails) -> str:
    """Why a value was refused, to follow the value's name and a colon."""
    if details["type"] == "model_type":
        return "must be a section, with its keys below it"
    words = details["msg"].removeprefix("Value error, ").removeprefix("Input should ")
    if words != details["msg"]:
        return words if words.startswith("must ") else f"must {words}"
    return words[:1].lower() + words[1:]
