"""Logs: one line an event, `level logger: message key=value …`, on standard error.

Fields go in by `extra=`; they stay apart from the message, so that the journal can index them
(see `edge_daemon.monitoring.systemd`).
"""

import json
import logging
import sys
import time
from typing import Final

from edge_daemon._lib.terminal import ERASE

STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class KeyValueFormatter(logging.Formatter):
    """Appends a record's extra fields to its message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the base class's name
        fields = (
            f"{key}={_quoted(value)}"
            for key, value in vars(record).items()
            if key not in STANDARD_FIELDS
        )
        return " ".join([super().formatMessage(record), *fields])


class RateLimitFilter(logging.Filter):
    """Passes one record of each message per interval, for messages that outsiders can cause.

    The next record that passes has the number of suppressed ones in its field `suppressed`.

    Args:
        interval_s: shortest time between two records of one message.
    """

    def __init__(self, interval_s: float) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._passed_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def reset(self) -> None:
        """Forget all records."""
        self._passed_at.clear()
        self._suppressed.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        message, now = str(record.msg), time.monotonic()
        if now - self._passed_at.get(message, float("-inf")) < self._interval_s:
            self._suppressed[message] = self._suppressed.get(message, 0) + 1
            return False
        self._passed_at[message] = now
        if suppressed := self._suppressed.pop(message, 0):
            record.suppressed = suppressed
        return True


def configure_logging(level: str, handler: logging.Handler | None = None) -> None:
    """Write the records of this program, and the warnings of libraries.

    Args:
        level: minimum level of this program's records.
        handler: writes the records; None: lines on standard error.
    """
    root = logging.getLogger()
    root.handlers[:] = [handler or _standard_error()]
    root.setLevel(logging.WARNING)
    set_log_level(level)
    # It logs a busy camera at every attempt; the capture loop does so once.
    logging.getLogger("picamera2").setLevel(logging.CRITICAL)


def set_log_level(level: str) -> None:
    """Set the minimum level of this program's records."""
    logging.getLogger("edge_daemon").setLevel(level.upper())


def _standard_error() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    erase = ERASE if sys.stderr.isatty() else ""  # a progress line, which is then drawn again
    handler.setFormatter(
        KeyValueFormatter(f"{erase}%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    return handler


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(letter in text for letter in ' "=\\')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
