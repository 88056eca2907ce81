"""Tells systemd how the daemon is: ready, alive, stopping, and a line for people (sd_notify(3)).

Needs systemd-python, the extra `systemd`. A camera that is lost or paused, and a broker that is
away, are no reasons to be started anew: both heal by themselves.
"""

import logging
import os
from collections.abc import Callable, Iterator, MutableMapping
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.outage import Episode
from edge_daemon.capture.status import SourceStatus
from edge_daemon.monitoring import journal
from edge_daemon.pipeline import Pipeline
from edge_daemon.records import SourceState

logger = logging.getLogger(__name__)

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"

SIGNS_IN_TIME: Final = 3
"""Signs of life in the time within which systemd waits for one."""

START_EXTENSION: Final = 30.0
"""Seconds by which each sign of life before the first frame extends the time to start."""

STATUS_INTERVAL: Final = 1.0
"""Seconds between two lines for people at least."""

Send = Callable[[str], None]
"""Sends lines such as `READY=1`."""


def notifier_from(
    environment: MutableMapping[str, str],
    source: SourceStatus,
    summary: Callable[[], str],
    clock: Clock,
) -> "SystemdNotifier | None":
    """What tells systemd; None where it did not ask, or cannot be told.

    What it asked is taken out of the environment, since it is for no child process.
    """
    socket = environment.pop(SOCKET_VARIABLE, None)
    watchdog = _watchdog_from(environment)
    if socket is None and not journal.is_standard_error():
        return None
    try:
        from systemd.daemon import notify
    except ImportError as error:
        logger.warning(
            "systemd is told nothing, and the journal gets plain lines; "
            "'apt install python3-systemd' is the mend",
            extra={"error": str(error)},
        )
        return None
    if socket is None:
        return None
    return SystemdNotifier(_sender(notify, socket), watchdog, source, summary, clock)


def _watchdog_from(environment: MutableMapping[str, str]) -> float | None:
    """Seconds in which this process must show that it lives (sd_watchdog_enabled(3))."""
    microseconds = environment.pop("WATCHDOG_USEC", "")
    process = environment.pop("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal() or process != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


def _sender(notify: Send, socket: str) -> Send:
    def send(lines: str) -> None:
        # Only from the environment does libsystemd take the address.
        os.environ[SOCKET_VARIABLE] = socket
        try:
            notify(lines)
        finally:
            del os.environ[SOCKET_VARIABLE]

    return send


class SystemdNotifier:
    """The watcher that tells systemd what it sees.

    It is ready with the first frame that went through all stages, or once it is known that the
    source is paused. Signs of life are given only while no stage hangs in one frame.

    Args:
        send: sends lines to systemd.
        watchdog: seconds in which systemd wants to hear a sign of life; None if it does not care.
        source: how the source is.
        summary: how the daemon is, in a line for people.
        clock: where the time is read.
    """

    def __init__(
        self,
        send: Send,
        watchdog: float | None,
        source: SourceStatus,
        summary: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._send_lines = send
        self._watchdog = watchdog
        self._source = source
        self._summary = summary
        self._clock = clock
        self._ready = False
        self._told = ""
        self._next_status = self._next_sign = clock.monotonic()
        self._hanging = Episode(clock)
        self._unheard = Episode(clock)

    def poll(self, pipeline: Pipeline) -> None:
        """Send what is new."""
        lines = [*self._readiness(pipeline), *self._status(), *self._sign_of_life(pipeline)]
        if lines:
            self._send(*lines)

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stopping")

    def _readiness(self, pipeline: Pipeline) -> Iterator[str]:
        paused = self._source.state is SourceState.PAUSED
        if not self._ready and (paused or pipeline.finished > 0):
            self._ready = True
            self._next_sign = self._clock.monotonic()
            yield "READY=1"

    def _status(self) -> Iterator[str]:
        if self._clock.monotonic() < self._next_status:
            return
        self._next_status = self._clock.monotonic() + STATUS_INTERVAL
        summary = self._summary()
        if summary != self._told:
            self._told = summary
            yield f"STATUS={summary}"

    def _sign_of_life(self, pipeline: Pipeline) -> Iterator[str]:
        """One in each third of the time that systemd waits, unless a stage hangs for as long."""
        wait = self._watchdog if self._ready else START_EXTENSION
        if wait is None or self._clock.monotonic() < self._next_sign:
            return
        interval = wait / SIGNS_IN_TIME
        if self._hangs(pipeline, interval):
            return
        self._next_sign = self._clock.monotonic() + interval
        yield "WATCHDOG=1" if self._ready else f"EXTEND_TIMEOUT_USEC={int(1e6 * wait)}"

    def _hangs(self, pipeline: Pipeline, limit: float) -> bool:
        """Whether a stage is at one frame for longer than that, which is told once."""
        busy_for = pipeline.busy_for
        stage = max(busy_for, key=busy_for.__getitem__)
        if busy_for[stage] <= limit:
            if (lasted := self._hanging.end()) is not None:
                logger.info("the stage goes on", extra={"seconds": lasted})
            return False
        if self._hanging.begin():
            logger.warning(
                "a stage hangs, giving systemd no sign of life",
                extra={"stage": stage, "seconds": round(busy_for[stage], 1)},
            )
        return True

    def _send(self, *lines: str) -> None:
        try:
            self._send_lines("\n".join(lines))
        except OSError as error:
            if self._unheard.begin():
                logger.warning("systemd does not hear us", extra={"error": str(error)})
        else:
            if (lasted := self._unheard.end()) is not None:
                logger.info("systemd hears us again", extra={"seconds": lasted})
