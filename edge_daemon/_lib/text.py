"""Text from outside, made safe to print: no control characters, no passwords, limited length."""

import re
from typing import Final

Address = tuple[str, int]
"""Host and port."""


def authority(address: Address) -> str:
    """The address as it stands in URLs."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


WORD: Final = re.compile(r"\S+")

AUTHORITY_END: Final = re.compile(r"[/?#]")
QUERY_START: Final = re.compile(r"[?#]")

LOGIN: Final = re.compile(r"^(?:(?:rtsps?|https?)?/{1,2})?[^\s:/@'\"]+:.*@")
"""User name and password at the start of an address without a scheme, or with a mistyped one."""

UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"

MAX_VALUE_LENGTH: Final = 120
"""Characters of a value in a message."""


def printable(text: str) -> str:
    """The text without what could end the line, move the cursor or change colours."""
    return "".join(letter if letter.isprintable() else UNPRINTABLE for letter in text)


def encodable(text: str) -> str:
    """The text without surrogates, which stand for bytes of a file's name that are not UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def masked_repr(value: object) -> str:
    """A value as it is written in Python, without passwords, nor its middle if it is long."""
    try:
        text = repr(without_password(value) if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # more digits, or more levels, than Python writes
        return "a value that is too long to print"
    return shortened(masked(text))


def shortened(text: str, most: int = MAX_VALUE_LENGTH) -> str:
    """The text, without its middle if it is long."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def without_password(url: str) -> str:
    """Mask what may be secret in an address: its login, and values in its path and query.

    Cameras take passwords in all three. An address whose password holds unencoded characters,
    such as `/`, does not parse: of that, only the scheme and, where it is clear, the host remain.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LOGIN.sub("***@", url)
    authority, path, query = _split(rest)
    _, at, host = authority.rpartition("@")
    if "@" in path + query:
        return f"{scheme}://{_masked_ambiguous(authority, rest)}"
    name, equals, _ = path.partition("=")
    return "".join(
        (scheme, "://", "***@" if at else "", host, name, "=***" if equals else "")
        + (("?***",) if query else ())
    )


def _split(rest: str) -> tuple[str, str, str]:
    """What follows an address's scheme, as its authority, its path and its query or fragment."""
    authority = AUTHORITY_END.split(rest, maxsplit=1)[0]
    path = QUERY_START.split(rest[len(authority) :], maxsplit=1)[0]
    return authority, path, rest[len(authority) + len(path) :]


def _masked_ambiguous(authority: str, rest: str) -> str:
    """What to show of an address with an `@` after what should be its authority."""
    name, colon, port = authority.partition(":")
    if not colon and "@" not in name:
        return f"{name}/***"
    if port.isdecimal() or "@" in authority:
        return "***"
    return f"***@{_split(rest.rpartition('@')[2])[0]}"


def masked(text: str) -> str:
    """The text with the passwords in its addresses masked."""
    return WORD.sub(lambda word: without_password(word[0]), text)
