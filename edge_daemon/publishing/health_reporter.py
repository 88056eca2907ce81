"""Publishes how the daemon is: now and then, and at once when the source's state changes."""

import threading
from collections.abc import Callable

from edge_daemon.config.settings import HealthSettings
from edge_daemon.monitoring.health import Health
from edge_daemon.pipeline import Busy, Service
from edge_daemon.publishing.topics import Message


class HealthReporter(Service):
    """The service that sends the health message.

    Args:
        health: what to tell.
        topic: where.
        keep: publishes a message that is so until the next one.
        settings: `interval` is the time between two messages.
        max_interval: limit on it, in seconds.
    """

    name = "health"
    is_essential = False

    def __init__(
        self,
        health: Health,
        topic: str,
        keep: Callable[[Message], None],
        settings: HealthSettings,
        max_interval: float,
    ) -> None:
        self._health = health
        self._topic = topic
        self._keep = keep
        self._interval = min(settings.interval, max_interval)
        self._max_interval = max_interval
        self._due = threading.Event()
        self._stopping = threading.Event()
        health.source.subscribe(self._due.set)

    def run(self, busy: Busy) -> None:
        """Report until `stop` is called."""
        while True:
            self._due.clear()
            if self._stopping.is_set():
                return
            with busy():
                payload = self._health.message().model_dump_json(by_alias=True).encode()
                self._keep(Message(self._topic, payload, retain=True, qos=1))
            self._due.wait(self._interval)

    def apply(self, settings: HealthSettings) -> None:
        """Use another interval, which begins with a message."""
        self._interval = min(settings.interval, self._max_interval)
        self._due.set()

    def stop(self) -> None:
        self._stopping.set()
        self._due.set()
