"""What is being measured, for whoever waits: on standard error, where it is a terminal's."""

import sys


def tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
