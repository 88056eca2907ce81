"""Text from outside, made safe to print: no control characters, no passwords, limited length."""

import re
from typing import Final

WORD: Final = re.compile(r"\S+")

UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"

LONGEST_SHOWN: Final = 120
"""Characters of a value that is shown as somebody wrote it."""


def printable(text: str) -> str:
    """The text without what could end the line, move the cursor or change colours."""
    return "".join(letter if letter.isprintable() else UNPRINTABLE for letter in text)


def shown(value: object) -> str:
    """A value as it is written in Python, without passwords, nor its middle if it is long."""
    try:
        text = repr(without_password(value) if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # more digits, or more levels, than Python writes
        return "what is too long to be shown"
    return shortened(masked(text))


def shortened(text: str, most: int = LONGEST_SHOWN) -> str:
    """The text, without its middle if it is long."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def without_password(url: str) -> str:
    """The address with its password and its query masked, fit for logs."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return url
    address, question, _ = rest.partition("?")  # cameras take passwords in queries, too
    credentials, at, host = address.rpartition("@")
    login = f"{credentials.partition(':')[0]}:***@" if at else ""
    return f"{scheme}://{login}{host}{'?***' if question else ''}"


def masked(text: str) -> str:
    """The text with the passwords in its addresses masked."""
    return WORD.sub(lambda word: without_password(word[0]), text)
