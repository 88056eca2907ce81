"""Whether the program was started by hand."""

import os
from typing import Final

STANDARD_INPUT: Final = 0
"""The descriptor."""


def in_terminal() -> bool:
    """Whether standard input is a terminal, as it is by hand; false once that is closed."""
    return os.isatty(STANDARD_INPUT)
