"""systemd: service notifications (sd_notify(3)), and a handler for its journal.

Both need systemd-python, the extra `systemd`; without it the journal gets plain lines. A lost or
paused camera and a disconnected broker do not stop the watchdog messages: the daemon recovers from
both without a restart.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Final

from edge_daemon._lib.clock import Clock, Outage
from edge_daemon._lib.logging import STANDARD_FIELDS, KeyValueFormatter
from edge_daemon.records import SourceState

if TYPE_CHECKING:  # the command line imports this module, and must not load OpenCV
    from edge_daemon.capture.status import SourceStatus
    from edge_daemon.pipeline import Pipeline

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


logger = logging.getLogger(__name__)

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"

MESSAGES_PER_TIMEOUT: Final = 3
"""Watchdog messages within the time after which systemd expects one."""

START_EXTENSION_S: Final = 30.0
"""Extension of the start timeout that each message before the first frame requests."""

STATUS_INTERVAL_S: Final = 1.0
"""Shortest time between two status lines."""

Send = Callable[[str], None]
"""Sends lines such as `READY=1`."""


def notifier_from(
    environment: MutableMapping[str, str],
    source: "SourceStatus",
    summary: Callable[[], str],
    clock: Clock,
) -> "SystemdNotifier | None":
    """The notifier that the environment asks for; None without a notify socket.

    Removes systemd's variables from the environment, so that no child process inherits them.
    """
    socket = environment.pop(SOCKET_VARIABLE, None)
    watchdog_s = _watchdog_from(environment)
    if socket is None and not is_standard_error():
        return None
    try:
        from systemd.daemon import notify
    except ImportError as error:
        logger.warning(
            "systemd integration unavailable, run 'apt install python3-systemd'",
            extra={"error": str(error)},
        )
        return None
    if socket is None:
        return None
    return SystemdNotifier(_sender(notify, socket), watchdog_s, source, summary, clock)


def _watchdog_from(environment: MutableMapping[str, str]) -> float | None:
    """The watchdog timeout of this process, in seconds (sd_watchdog_enabled(3))."""
    microseconds = environment.pop("WATCHDOG_USEC", "")
    process = environment.pop("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal() or process != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


def _sender(notify: Send, socket: str) -> Send:
    def send(lines: str) -> None:
        # libsystemd reads the address from the environment only.
        os.environ[SOCKET_VARIABLE] = socket
        try:
            notify(lines)
        finally:
            del os.environ[SOCKET_VARIABLE]

    return send


class SystemdNotifier:
    """The watcher that reports the pipeline's state to systemd.

    The service is ready when the first frame has passed all stages, or when the source is paused.
    Watchdog messages stop while a stage hangs in one frame.

    Args:
        send: sends lines to systemd.
        watchdog_s: time within which systemd expects a watchdog message; None: it expects none.
        source: state of the source.
        summary: the status line.
        clock: the clock to use.
    """

    def __init__(
        self,
        send: Send,
        watchdog_s: float | None,
        source: "SourceStatus",
        summary: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._send_lines = send
        self._watchdog_s = watchdog_s
        self._source = source
        self._summary = summary
        self._clock = clock
        self._ready = False
        self._last_status = ""
        self._next_status = self._next_message = clock.monotonic()
        self._hang = Outage(clock)
        self._send_failure = Outage(clock)

    def poll(self, pipeline: "Pipeline") -> None:
        """Send what has changed or is due."""
        lines = [*self._readiness(pipeline), *self._status(), *self._watchdog(pipeline)]
        if lines:
            self._send(*lines)

    def stopping(self) -> None:
        """Report the end."""
        self._send("STOPPING=1", "STATUS=stopping")

    def _readiness(self, pipeline: "Pipeline") -> Iterator[str]:
        is_paused = self._source.state is SourceState.PAUSED
        if not self._ready and (is_paused or pipeline.finished > 0):
            self._ready = True
            self._next_message = self._clock.monotonic()
            yield "READY=1"

    def _status(self) -> Iterator[str]:
        if self._clock.monotonic() < self._next_status:
            return
        self._next_status = self._clock.monotonic() + STATUS_INTERVAL_S
        summary = self._summary()
        if summary != self._last_status:
            self._last_status = summary
            yield f"STATUS={summary}"

    def _watchdog(self, pipeline: "Pipeline") -> Iterator[str]:
        """One message per third of the timeout, unless a stage hangs for as long."""
        timeout_s = self._watchdog_s if self._ready else START_EXTENSION_S
        if timeout_s is None or self._clock.monotonic() < self._next_message:
            return
        interval_s = timeout_s / MESSAGES_PER_TIMEOUT
        if self._is_hanging(pipeline, interval_s):
            return
        self._next_message = self._clock.monotonic() + interval_s
        yield "WATCHDOG=1" if self._ready else f"EXTEND_TIMEOUT_USEC={int(1e6 * timeout_s)}"

    def _is_hanging(self, pipeline: "Pipeline", limit_s: float) -> bool:
        """Whether a stage works on one frame for longer than the limit; logged once."""
        current_item_s = pipeline.current_item_s
        stage = max(current_item_s, key=current_item_s.__getitem__)
        if current_item_s[stage] <= limit_s:
            if (duration_s := self._hang.end()) is not None:
                logger.info("stage resumed", extra={"seconds": duration_s})
            return False
        if self._hang.begin():
            logger.warning(
                "stage hangs, withholding watchdog messages",
                extra={"stage": stage, "seconds": round(current_item_s[stage], 1)},
            )
        return True

    def _send(self, *lines: str) -> None:
        try:
            self._send_lines("\n".join(lines))
        except OSError as error:
            if self._send_failure.begin():
                logger.warning("sd_notify failed", extra={"error": str(error)})
        else:
            if (duration_s := self._send_failure.end()) is not None:
                logger.info("sd_notify recovered", extra={"seconds": duration_s})
