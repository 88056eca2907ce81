"""The program: `edge-daemon`, or `python -m edge_daemon`.

To load all of it takes seconds on a small machine. Whoever ends it meanwhile, by SIGTERM or Ctrl-C,
need not wait: nothing has begun that would have to be ended in good order. SIGHUP, by which a
service is told to read its settings anew, waits until that can be done.
"""

import os
import signal
from typing import NoReturn

from edge_daemon._lib.terminal import in_terminal


def main() -> NoReturn:
    """Run the command line's command and end the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    if not in_terminal():  # else a terminal may be closed, which ends what runs in it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from edge_daemon import cli

    cli.entry_point()


def _leave(_number: int, _frame: object) -> NoReturn:
    # An exception might be caught: OpenCV and LiteRT have an `except:` around some imports.
    os._exit(0)


if __name__ == "__main__":
    main()
