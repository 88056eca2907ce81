"""Connects to the broker, and connects again whenever a connection ends."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Final

from edge_daemon._lib.backoff import backoff_delays
from edge_daemon._lib.clock import Clock
from edge_daemon._lib.outage import Episode
from edge_daemon.pipeline import Busy, in_thread
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.duplicate_client import Twins
from edge_daemon.publishing.mqtt import Connection, ConnectionEnded, TakenOver, VersionRefused
from edge_daemon.publishing.topics import Message

logger = logging.getLogger(__name__)

WAITING_INTERVAL: Final = 0.2
"""Seconds between two looks at what else is to be done, while there is no connection."""

PAUSE_FOR_TWINS: Final = 60.0
"""Seconds to leave the broker to another client with the same id."""


class Link:
    """The way to the broker, through all its connections.

    Args:
        broker: where to connect.
        client_id: stable, and no other client's.
        will: what the broker is to publish when we are gone without a goodbye.
        clock: where the time is read.
        meanwhile: called several times a second while there is no connection.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        will: Message,
        clock: Clock,
        meanwhile: Callable[[], None],
    ) -> None:
        self.stopping = threading.Event()
        self.connections = 0
        """How many the broker has accepted."""
        self._broker = broker
        self._client_id = client_id
        self._will = will
        self._clock = clock
        self._meanwhile = meanwhile
        self._version = "3.1.1" if broker.protocol == "3.1.1" else "5"
        self._accepted_at: float | None = None
        self._away = Episode(clock)
        self._twins = Twins()
        self._twin_told = False

    def run(self, serve: Callable[[Connection], None], busy: Busy) -> None:
        """Have each connection served, until `stopping` is set.

        Args:
            serve: uses an open connection until it ends, or until `stopping` is set.
            busy: marks calls that can hang.
        """
        delays = backoff_delays()
        while not self.stopping.is_set():
            self._accepted_at = None
            try:
                self._connect(serve, busy)
            except ConnectionEnded as end:
                self._twins.note(end, self._lasted())
                if self._accepted_at is not None and not self._twins.suspected:
                    delays = backoff_delays()
                self._rest(self._pause_after(end, delays), busy)

    def note_acceptance(self, **figures: object) -> None:
        """The broker has let us in; the figures are told if we were away."""
        self.connections += 1
        self._accepted_at = self._clock.monotonic()
        fields: dict[str, object] = {"broker": self._broker.address, "mqtt": self._version}
        if (seconds := self._away.end()) is not None:
            fields |= {"away_seconds": seconds, **figures}
        level = logging.DEBUG if self._twins.suspected else logging.INFO
        logger.log(level, "connected to the broker", extra=fields)

    def _connect(self, serve: Callable[[Connection], None], busy: Busy) -> None:
        """Open a connection and have it served.

        Raises:
            ConnectionEnded: otherwise than by us.
        """
        connection = Connection(self._broker, self._client_id, self._version, self._will)
        # In a thread of its own, since the look-up of a name may hang for as long as it likes.
        opening = in_thread("mqtt-connect", connection.open)
        try:
            while not (opening.done() or self.stopping.is_set()):
                wait([opening], WAITING_INTERVAL)
                with busy():
                    self._meanwhile()
            if opening.done():
                opening.result()
                serve(connection)
        finally:
            # At once, or when the opening that is left behind has come to its end.
            opening.add_done_callback(lambda _: connection.close())

    def _lasted(self) -> float | None:
        """Seconds for which the last connection was accepted, if it was."""
        return None if self._accepted_at is None else self._clock.monotonic() - self._accepted_at

    def _pause_after(self, end: ConnectionEnded, delays: Iterator[float]) -> float:
        """Seconds until the next attempt."""
        if isinstance(end, VersionRefused) and self._fall_back():
            return 0.0
        if self._away.begin() and not self.stopping.is_set():
            self._tell_away(end)
        return PAUSE_FOR_TWINS if isinstance(end, TakenOver) else next(delays)

    def _tell_away(self, end: ConnectionEnded) -> None:
        """One line when the broker goes away; of a twin's many visits, only the first is told."""
        twin = self._twins.suspected
        hint = f"; does another client have the id {self._client_id}?" if twin else ""
        logger.log(
            logging.DEBUG if twin and self._twin_told else logging.WARNING,
            "no connection to the broker, trying again",
            extra={"broker": self._broker.address, "reason": f"{end}{hint}"},
        )
        self._twin_told = twin

    def _fall_back(self) -> bool:
        """Go on with the older version, if that is allowed and was not tried; for good."""
        if self._broker.protocol != "auto" or self._version == "3.1.1":
            return False
        self._version = "3.1.1"
        logger.info("the broker does not know MQTT 5, using 3.1.1")
        return True

    def _rest(self, seconds: float, busy: Busy) -> None:
        while seconds > 0 and not self.stopping.wait(min(seconds, WAITING_INTERVAL)):
            seconds -= WAITING_INTERVAL
            with busy():
                self._meanwhile()
