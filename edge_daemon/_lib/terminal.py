"""The standard streams."""

import os
import sys
from typing import Final

STANDARD_INPUT: Final = 0
STANDARD_OUTPUT: Final = 1
"""Descriptors."""


def in_terminal() -> bool:
    """Whether the program was started in a terminal that is still open."""
    return os.isatty(STANDARD_INPUT)


def open_standard_streams() -> None:
    """Replace closed standard streams by /dev/null.

    Otherwise the next file that is opened would get a closed stream's descriptor, and receive what
    libraries print.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
            stream = open(descriptor, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115, PTH123  # for the life of the process
            setattr(sys, name, stream)


def discard_output() -> None:
    """Discard what standard output still buffers, which would fail again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STANDARD_OUTPUT)
    os.close(nowhere)
