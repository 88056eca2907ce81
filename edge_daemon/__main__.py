"""The program: `edge-daemon`, or `python -m edge_daemon`.

Its modules take seconds to load on a small machine. Until then SIGTERM and Ctrl-C end the process
at once, as there is nothing to clean up, and SIGHUP, which reloads the settings, stays pending.
"""

import os
import signal
import sys
from typing import NoReturn

from edge_daemon._lib.terminal import in_terminal, open_standard_streams
from edge_daemon.errors import exit_code_of_signal


def main() -> NoReturn:
    """Run the command and exit."""
    open_standard_streams()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    if not in_terminal():  # a closing terminal also sends SIGHUP, which must end the process
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from edge_daemon import cli

    cli.entry_point()


def _exit(number: int, _frame: object) -> NoReturn:
    # No exception, as OpenCV and LiteRT catch all of them around some imports.
    os._exit(exit_code_of_signal(number, sys.argv[1:]))


if __name__ == "__main__":
    main()
