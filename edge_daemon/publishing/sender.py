"""Sends the events that wait, over one connection, the oldest first."""

from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon.publishing.event_queue import Outbox
from edge_daemon.publishing.mqtt import MOST_UNACKNOWLEDGED, Acknowledged, Connection, Reception
from edge_daemon.publishing.topics import Message

RETURN_OF_LISTENERS: Final = 30.0
"""Seconds after connecting in which an event that nobody hears is sent again.

When a broker comes back, its other clients come back as well, each in its own time. A broker of
MQTT 5 tells when there is no subscriber; the older version does not.
"""

LISTENING_INTERVAL: Final = 1.0
"""Seconds until an event that nobody heard is tried again …"""

REFUSAL_INTERVAL: Final = 10.0
"""… and one that the broker refused, until someone gives us the right to publish."""

RATE: Final = 400.0
"""Events a second at most, after a long absence, so that those who listen can keep up.

What a broker has acknowledged and still queues for a slow listener is lost if it is killed.
"""


class Drain:
    """The way of events from the outbox to the broker.

    The first goes alone. Others follow, several at a time, as soon as it was heard; so none is
    heard before one that must be sent again. After a refusal the same begins anew.
    """

    def __init__(self, outbox: Outbox, topic: str, connection: Connection, clock: Clock) -> None:
        self._outbox = outbox
        self._topic = topic
        self._connection = connection
        self._clock = clock
        self._under_way: dict[int, int] = {}
        """Sequence numbers by the numbers under which they will be acknowledged."""
        self._last_sent = 0
        self._at_once = 1
        self._allowance = float(MOST_UNACKNOWLEDGED)
        self._allowed_at = clock.monotonic()
        self._resume_at = self._listeners_by = 0.0

    def begin(self, *, listeners_may_return: bool) -> None:
        """The broker has let us in."""
        self._resume_at = self._listeners_by = self._clock.monotonic()
        if listeners_may_return:
            self._listeners_by += RETURN_OF_LISTENERS

    @property
    def resting(self) -> bool:
        """Whether nothing can be sent, or is on its way, now."""
        return self._outbox.depth == 0 or self._clock.monotonic() < self._resume_at

    def pump(self) -> None:
        """Send what may be sent now."""
        self._refill()
        at_once = self._at_once - len(self._under_way)
        room = min(at_once, self._connection.room, int(self._allowance))
        if room <= 0 or self.resting:
            return
        entries = self._outbox.pending(self._last_sent, room)
        for entry in entries:
            number = self._connection.publish(Message(self._topic, entry.payload, qos=1))
            self._under_way[number] = self._last_sent = entry.sequence
            self._allowance -= 1
        if not self._under_way:
            self._last_sent = 0  # some wait that could not be read from the disk before

    def note(self, answer: Acknowledged) -> None:
        """Take the broker's answer to a message, be it an event or not."""
        sequence = self._under_way.pop(answer.number, None)
        if sequence is None:
            return
        unheard = answer.reception is Reception.UNHEARD
        if answer.reception is Reception.REFUSED:
            self._begin_anew_after(REFUSAL_INTERVAL)
        elif unheard and self._clock.monotonic() < self._listeners_by:
            self._begin_anew_after(LISTENING_INTERVAL)
        else:
            self._outbox.acknowledge(sequence)
            if not self._under_way:
                self._at_once = MOST_UNACKNOWLEDGED

    def _refill(self) -> None:
        now = self._clock.monotonic()
        earned = RATE * (now - self._allowed_at)
        self._allowance = min(MOST_UNACKNOWLEDGED, self._allowance + earned)
        self._allowed_at = now

    def _begin_anew_after(self, seconds: float) -> None:
        self._at_once, self._last_sent = 1, 0
        self._resume_at = self._clock.monotonic() + seconds
