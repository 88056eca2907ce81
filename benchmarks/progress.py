"""Progress on standard error, if it is a terminal."""

import sys


def report(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
