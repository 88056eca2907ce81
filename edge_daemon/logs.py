"""Logs: one line an event, `level logger: message key=value …`, on standard error.

Fields go in by `extra=`; they stay apart from the message, so that a journal can index them.
"""

import json
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
    # It tells of a busy camera at every attempt; the capture loop does so once.
    logging.getLogger("picamera2").setLevel(logging.CRITICAL)


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(letter in text for letter in ' "=\\')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
