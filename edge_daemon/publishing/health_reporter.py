"""Publishes the health message periodically, and at once when the state of the source changes."""

import threading
from collections.abc import Callable
from typing import Final, Protocol

from edge_daemon.config.settings import HealthSettings
from edge_daemon.pipeline import Busy, Service
from edge_daemon.publishing.topics import Message
from edge_daemon.records import SourceState
from edge_daemon.schema import HealthMessage

CHECK_INTERVAL_S: Final = 0.25
"""Time between two checks of the source's state."""


class SourceStatus(Protocol):
    """How the source is."""

    @property
    def state(self) -> SourceState: ...


class Health(Protocol):
    """What the message is made of."""

    @property
    def source(self) -> SourceStatus: ...

    def message(self) -> HealthMessage:
        """The present health; must not wait for the disk."""
        ...


class HealthReporter(Service):
    """The service that publishes the health message.

    Args:
        health: what to publish.
        topic: where to publish it.
        keep: publishes a state until the next one.
        settings: `interval` is the time between two messages.
        max_interval_s: limit on that.
    """

    name = "health"
    is_essential = False

    def __init__(
        self,
        health: Health,
        topic: str,
        keep: Callable[[Message], None],
        settings: HealthSettings,
        max_interval_s: float,
    ) -> None:
        self._health = health
        self._topic = topic
        self._keep = keep
        self._max_interval_s = max_interval_s
        self._interval_s = min(settings.interval, max_interval_s)
        self._is_due = True
        self._stopping = threading.Event()

    def run(self, busy: Busy) -> None:
        """Report until `stop` is called."""
        waited_s, reported = 0.0, self._health.source.state
        while not self._stopping.is_set():
            state = self._health.source.state
            if self._is_due or state is not reported or waited_s >= self._interval_s:
                waited_s, reported, self._is_due = 0.0, state, False
                with busy():
                    payload = self._health.message().model_dump_json(by_alias=True).encode()
                    self._keep(Message(self._topic, payload, retain=True, qos=1))
            self._stopping.wait(min(CHECK_INTERVAL_S, self._interval_s))
            waited_s += min(CHECK_INTERVAL_S, self._interval_s)

    def apply(self, settings: HealthSettings) -> None:
        """Apply a changed interval, which begins with a message."""
        self._interval_s = min(settings.interval, self._max_interval_s)
        self._is_due = True

    def stop(self) -> None:
        self._stopping.set()
