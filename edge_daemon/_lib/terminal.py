"""The standard streams, and a progress line on a terminal."""

import os
import sys
from contextlib import suppress
from typing import BinaryIO, Final, TextIO

from edge_daemon._lib.clock import Clock, in_minutes
from edge_daemon.errors import OutputClosed, OutputError

ERASE: Final = "\r\x1b[K"
"""Returns to the start of a terminal's line and clears it."""

INTERVAL_S: Final = 0.2
"""Time between two updates of the line."""

MAX_BAR: Final = 30
"""Characters."""

DEFAULT_COLUMNS: Final = 80


def can_show_progress(*, prints_results: bool) -> bool:
    """Whether standard error is a terminal that shows nothing else.

    Args:
        prints_results: whether standard output shows results while the work goes on.
    """
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return is_terminal and not (prints_results and sys.stdout.isatty())


class ProgressLine:
    """Draws over one line of a terminal. Used by one thread, closed after it ended.

    Args:
        stream: the terminal.
        unit: what is counted, in the plural.
        clock: the clock to use.
    """

    def __init__(self, stream: TextIO, unit: str, clock: Clock) -> None:
        self._stream = stream
        self._unit = unit
        self._clock = clock
        self._started_at = clock.monotonic()
        self._due_at = self._started_at

    def update(self, count: int, fraction: float | None) -> None:
        """Show the progress, unless it was shown a moment ago.

        Args:
            count: what is done so far, in units.
            fraction: the part of all work, 0 to 1; None if unknown.
        """
        now = self._clock.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + INTERVAL_S
        text = self._text(count, fraction, now - self._started_at)
        self._write(ERASE + text[: self._columns() - 1])

    def close(self) -> None:
        """Remove the line."""
        self._write(ERASE)

    def _text(self, count: int, fraction: float | None, elapsed_s: float) -> str:
        speed = count / elapsed_s if elapsed_s > 0 else 0.0
        done = f"{count} {self._unit}, {speed:.1f}/s"
        if fraction is None:
            return done
        fraction = min(1.0, max(0.0, fraction))
        filled = round(MAX_BAR * fraction)
        bar = "#" * filled + "-" * (MAX_BAR - filled)
        left = in_minutes(elapsed_s * (1 - fraction) / fraction) if fraction > 0 else "-:--"
        return f"{100 * fraction:3.0f} % [{bar}] {done}, ETA {left}"

    def _columns(self) -> int:
        with suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or DEFAULT_COLUMNS
        return DEFAULT_COLUMNS

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that is closed
            self._stream.write(text)
            self._stream.flush()


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


def write_line(stream: BinaryIO, line: bytes) -> None:
    """Write a line and flush it.

    Raises:
        OutputClosed: the reader of the stream has closed it.
        OutputError: it cannot be written, such as on a full disk.
    """
    try:
        stream.write(line + b"\n")
        stream.flush()
    except BrokenPipeError as error:
        raise OutputClosed("the reader of the output has closed it") from error
    except OSError as error:
        raise OutputError(
            f"standard output: cannot be written ({error.strerror}); check its disk"
        ) from error


def discard_output() -> None:
    """Discard what standard output still buffers, which would fail again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STANDARD_OUTPUT)
    os.close(nowhere)
