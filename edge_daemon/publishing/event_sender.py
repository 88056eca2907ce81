"""Sends events to the broker, one at a time, each once the broker has acknowledged the one before.

So a refusal or a broken connection cannot change their order. On a network with a round trip of
5 ms that is 200 events a second.
"""

import logging
from typing import TYPE_CHECKING, Final

from edge_daemon._lib.clock import Clock
from edge_daemon.publishing.event_queue import EventQueue
from edge_daemon.publishing.event_store import QueuedEvent
from edge_daemon.publishing.messages import (
    NOT_AUTHORIZED,
    QUOTA_EXCEEDED,
    Acknowledged,
    CannotPublish,
    Message,
    PublishOutcome,
)

if TYPE_CHECKING:
    from edge_daemon.publishing.mqtt import Connection

logger = logging.getLogger(__name__)

SUBSCRIBER_GRACE_S: Final = 30.0
"""Time after connecting in which an event without a subscriber is sent again.

When a broker restarts, its other clients reconnect as well, each in its own time. A broker with
MQTT 5 reports that there is no subscriber; with 3.1.1 it does not.
"""

NO_SUBSCRIBER_INTERVAL_S: Final = 1.0
"""Time until an event without a subscriber is sent again."""

REFUSAL_INTERVAL_S: Final = 10.0
"""Time until a refused event is sent again."""

MAX_REFUSALS: Final = 5
"""Refusals of one event after which it is dropped, if the reason can be the event itself."""

GENERAL_REFUSALS: Final = frozenset({NOT_AUTHORIZED, QUOTA_EXCEEDED})
"""Reason codes that concern all events, so that none is dropped."""

MIN_INTERVAL_S: Final = 1 / 400
"""Time between two events, for the subscribers. Brokers drop what a slow subscriber queues up."""


class EventSender:
    """Sends the head of the queue over the current connection.

    Args:
        queue: the events.
        topic: where to publish them.
        clock: the clock to use.
    """

    def __init__(self, queue: EventQueue, topic: str, clock: Clock) -> None:
        self._queue = queue
        self._topic = topic
        self._clock = clock
        self._in_flight: tuple[int, QueuedEvent] | None = None
        """The packet identifier and the event that the broker has not acknowledged."""
        self._refusals = (0, 0)
        """The sequence number of the event refused last, and its refusals."""
        self._next_at = self._grace_until = clock.monotonic()

    def begin(self, *, with_grace: bool) -> None:
        """Start on a new connection, with or without a grace period for subscribers."""
        self._in_flight = None
        self._next_at = self._grace_until = self._clock.monotonic()
        if with_grace:
            self._grace_until += SUBSCRIBER_GRACE_S

    @property
    def delay_s(self) -> float | None:
        """Seconds until an event can be sent; None while there is none to send."""
        if self._in_flight is not None or self._queue.head() is None:
            return None
        return max(0.0, self._next_at - self._clock.monotonic())

    @property
    def is_idle(self) -> bool:
        """Whether no event is in flight, and none can be sent soon."""
        is_waiting = self._next_at - self._clock.monotonic() > MIN_INTERVAL_S
        return self._in_flight is None and (self._queue.depth == 0 or is_waiting)

    def send(self, connection: "Connection") -> None:
        """Send the next event, if it is time."""
        now = self._clock.monotonic()
        if self._in_flight is not None or now < self._next_at:
            return
        if (entry := self._queue.head()) is None:
            return
        try:
            packet_id = connection.publish(Message(self._topic, entry.payload, qos=1))
        except CannotPublish as error:
            self._drop(entry, str(error))
        else:
            self._in_flight = packet_id, entry
            self._next_at = now + MIN_INTERVAL_S

    def on_acknowledged(self, response: Acknowledged) -> None:
        """Process the broker's response to a message, whether it is an event or not."""
        if self._in_flight is None or self._in_flight[0] != response.packet_id:
            return
        (_, entry), self._in_flight = self._in_flight, None
        now = self._clock.monotonic()
        if response.outcome is PublishOutcome.REFUSED:
            self._on_refused(entry, response)
        elif response.outcome is PublishOutcome.NO_SUBSCRIBERS and now < self._grace_until:
            self._next_at = now + NO_SUBSCRIBER_INTERVAL_S
        else:
            self._queue.remove(entry.sequence)

    def _on_refused(self, entry: QueuedEvent, response: Acknowledged) -> None:
        self._next_at = self._clock.monotonic() + REFUSAL_INTERVAL_S
        if response.code in GENERAL_REFUSALS:
            return
        sequence, count = self._refusals
        count = count + 1 if sequence == entry.sequence else 1
        self._refusals = (entry.sequence, count)
        if count >= MAX_REFUSALS:
            self._drop(entry, response.reason)

    def _drop(self, entry: QueuedEvent, reason: str) -> None:
        self._next_at = self._clock.monotonic()
        logger.error(
            "event refused, dropping it", extra={"sequence": entry.sequence, "reason": reason}
        )
        self._queue.remove(entry.sequence, is_dropped=True)
