"""Logs: one line an event, `level logger: message key=value …`, on standard error.

Fields go in by `extra=`; they stay apart from the message, so that a journal can index them.
"""

import logging
import sys
from typing import Final

STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class KeyValueFormatter(logging.Formatter):
    """Writes a record's extra fields behind its message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the base class's name
        fields = (
            f"{key}={_quoted(value)}"
            for key, value in vars(record).items()
            if key not in STANDARD_FIELDS
        )
        return " ".join([super().formatMessage(record), *fields])


def configure_logging(level: str) -> None:
    """Send this program's records to standard error; other libraries only speak up to warn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("edge_daemon").setLevel(level.upper())


def _quoted(value: object) -> str:
    text = str(value)
    return f'"{text}"' if any(letter in text for letter in ' "=') else text
