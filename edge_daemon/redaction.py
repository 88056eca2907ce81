"""Keeps secrets out of logs, errors and printed settings."""

import re
from typing import Final

WORD: Final = re.compile(r"\S+")


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
