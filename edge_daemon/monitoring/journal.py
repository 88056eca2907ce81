"""Handler for the systemd journal, which stores a record's fields so that they can be searched.

Needs systemd-python, the extra `systemd`; without it the journal gets plain lines.
"""

import logging
import os
import sys
from typing import Final

from edge_daemon._lib.logging import STANDARD_FIELDS, KeyValueFormatter

IDENTIFIER: Final = "edge-daemon"


def is_standard_error() -> bool:
    """Whether standard error is connected to the journal, by JOURNAL_STREAM (systemd.exec(5))."""
    stream = os.environ.get("JOURNAL_STREAM")
    if stream is None:
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def journal_handler() -> logging.Handler | None:
    """A handler that sends records to the journal; None if standard error leads elsewhere."""
    if not is_standard_error():
        return None
    try:
        from systemd.journal import JournalHandler, send
    except ImportError:
        return None  # `notifier_from` logs it

    def send_fields(text: str, /, **fields: object) -> None:
        """The journal's field names are upper case; those of the library already are."""
        send(text, **{key.upper(): fields[key] for key in fields.keys() - STANDARD_FIELDS})

    handler: logging.Handler = JournalHandler(
        sender_function=send_fields, SYSLOG_IDENTIFIER=IDENTIFIER
    )
    handler.setFormatter(KeyValueFormatter("%(message)s"))
    return handler
