"""Results over MQTT.

The publisher is two things. As a step of the pipeline it takes results and never waits, unless the
source is patient. As a service it owns the network thread, which connects, sends, and connects
again. There are three ways of delivery:

- state: only the latest counts. It is kept, and sent again after every connect.
- events: each counts. They wait in the outbox until the broker has acknowledged them.
- telemetry: what cannot be sent now is dropped and counted.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon.config.settings import MqttSettings
from edge_daemon.pipeline import Busy, Service
from edge_daemon.publishing.broker import Broker
from edge_daemon.publishing.commands import Commands, Handler
from edge_daemon.publishing.connection import Link
from edge_daemon.publishing.event_queue import Outbox
from edge_daemon.publishing.keep_alive import Liveness
from edge_daemon.publishing.mqtt import Accepted, Acknowledged, Connection, Received, Reception
from edge_daemon.publishing.sender import Drain
from edge_daemon.publishing.topics import Message, Topics
from edge_daemon.records import Event, FrameResult
from edge_daemon.schema import SpoolMessage, faces_payload

logger = logging.getLogger(__name__)

LOOP_INTERVAL: Final = 0.2
"""Seconds between two looks at the clock while the network is quiet."""

DRAIN_INTERVAL: Final = 0.02
"""The same while there are events to send."""

FLUSH_TIMEOUT: Final = 0.6
"""Seconds at the end of the program in which what is under way may still be sent …"""

FAREWELL_TIMEOUT: Final = 0.9
"""… and after which the last word must be out."""

MOST_UNSENT: Final = 16
"""Results that may wait for the network."""

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"


def _never() -> bool:
    return False


class MqttPublisher(Service):
    """Publishes a device's results, and whether it is there.

    Args:
        broker: where to connect.
        client_id: stable, and no other client's.
        topics: what goes where.
        rate: results a second of the source's time at most; one with an event always goes.
        outbox: where events wait.
        patient: wait for the broker rather than drop (for sources that lose nothing).
        clock: where the time is read.
        stale_after: seconds without a result after which the device is told to be offline.
        paused: tells whether the source is paused, so that no results need come.
        discovery: gives messages that describe the device; asked after every connect.
        commands: handlers by topic, called on the network thread: quick, and never raising.
        birth_topic: where `online` asks for all state anew, as Home Assistant does at its start.
    """

    name = "mqtt"

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        topics: Topics,
        rate: float,
        *,
        outbox: Outbox,
        patient: bool,
        clock: Clock,
        stale_after: float = 15.0,
        paused: Callable[[], bool] = _never,
        discovery: Callable[[], Sequence[Message]] = tuple,
        commands: Mapping[str, Handler] | None = None,
        birth_topic: str | None = None,
    ) -> None:
        self.dropped = 0
        """Results that were never sent."""
        self._topics = topics
        self._interval = 1 / rate
        self._outbox = outbox
        self._patient = patient
        self._clock = clock
        self._liveness = Liveness(stale_after, paused, clock)
        self._discovery = discovery
        births = {birth_topic: self._on_birth} if birth_topic else {}
        self._commands = Commands({**(commands or {}), **births})
        self._link = Link(broker, client_id, self._presence(OFFLINE), clock, outbox.tend)
        self._next_due = float("-inf")
        self._changed = threading.Condition()
        """Guards what threads share, and tells the patient that something went out."""
        self._connection: Connection | None = None
        self._kept: dict[str, Message] = {}
        self._due: dict[str, Message] = {}
        self._telemetry: deque[bytes] = deque()
        self._refused: set[str] = set()
        """Topics that the broker does not let us publish to."""
        self._subscribed = False
        self._availability = self._presence(ONLINE)
        # Whoever plays a clip to a fresh broker need not wait for anybody.
        self._listeners_may_return = not patient or outbox.depth > 0

    def __call__(self, result: FrameResult) -> None:
        """Put events into the outbox, and publish the result, if it is due."""
        self._liveness.note()
        for event in result.events:
            self._spool(event, result)
        if result.events or self._is_due(result.frame.stream_time):
            self._offer(result)
        if result.events and self._patient:
            self._wait_until(self._events_are_out)

    def apply(self, settings: MqttSettings) -> None:
        """Use another rate."""
        self._interval = 1 / settings.rate

    def keep(self, message: Message) -> None:
        """Publish what is so until the next message on the topic, now and after every connect."""
        with self._changed:
            self._kept[message.topic] = message
            self._send(message)

    def run(self, busy: Busy) -> None:
        """Keep a connection until `stop` is called."""
        self._link.run(lambda connection: self._serve(connection, busy), busy)

    def stop(self) -> None:
        self._link.stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._wake()

    def queued_events(self) -> SpoolMessage:
        """State of the event queue; may read from the disk."""
        return self._outbox.figures()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self._link.connections - 1)

    def _spool(self, event: Event, result: FrameResult) -> None:
        late = self._clock.monotonic() - result.frame.captured_monotonic
        message = self._outbox.append(event, 1000 * late)
        logger.info(
            "event",
            extra={
                "event_id": message.event_id,
                "kind": message.kind,
                "track_id": message.track_id,
                "emotion": message.emotion,
                "sequence": message.sequence,
            },
        )
        self._wake()

    def _is_due(self, stream_time: float) -> bool:
        # It was set by another rate if it is farther away than that.
        if stream_time < self._next_due <= stream_time + self._interval:
            return False
        # Counted from when it was due, not from when it came, so that the rate is kept on average.
        due = self._next_due + self._interval
        self._next_due = due if due > stream_time else stream_time + self._interval
        return True

    def _offer(self, result: FrameResult) -> None:
        """Hand a result to the network thread, if there is room."""
        if self._patient:
            self._wait_until(self._has_room)
        with self._changed:
            if not self._has_room():
                self.dropped += 1
                return
            self._telemetry.append(faces_payload(result, self._clock))
        self._wake()

    def _has_room(self) -> bool:
        return self._connection is not None and len(self._telemetry) < MOST_UNSENT

    def _events_are_out(self) -> bool:
        return self._outbox.depth == 0 or self._topics.event in self._refused

    def _wait_until(self, fulfilled: Callable[[], bool]) -> None:
        """Wait for the network thread, which is no fault of the pipeline's."""
        with self._changed:
            while not (fulfilled() or self._link.stopping.is_set()):
                self._changed.wait(LOOP_INTERVAL)
                self._liveness.note()

    def _send(self, message: Message) -> None:
        """Have a message sent soon; of two on one topic, only the later."""
        with self._changed:
            if self._connection is not None:
                self._due[message.topic] = message
        self._wake()

    def _wake(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.wake()

    def _serve(self, connection: Connection, busy: Busy) -> None:
        """Use a connection until it ends, or until `stop` is called."""
        drain = Drain(self._outbox, self._topics.event, connection, self._clock)
        try:
            while not self._link.stopping.is_set():
                with busy():
                    self._turn(connection, drain)
            if connection.accepted:
                with busy():
                    self._say_goodbye(connection, drain)
        finally:
            self._forget_connection()

    def _turn(self, connection: Connection, drain: Drain) -> None:
        for happening in connection.turn(LOOP_INTERVAL if drain.resting else DRAIN_INTERVAL):
            match happening:
                case Accepted():
                    self._begin(connection, drain)
                case Acknowledged():
                    drain.note(happening)
                    self._note_refusal(happening)
                case Received():
                    self._commands.take(happening)
        if connection.accepted:
            self._pump(connection, drain)
        self._outbox.tend()

    def _begin(self, connection: Connection, drain: Drain) -> None:
        drain.begin(listeners_may_return=self._listeners_may_return)
        self._listeners_may_return = True
        self._subscribed = not self._commands.topics
        with self._changed:
            self._connection = connection
        self._send_state()
        self._link.note_acceptance(dropped=self.dropped, waiting=self._outbox.depth)

    def _on_birth(self, payload: bytes) -> None:
        if payload == ONLINE:
            self._send_state()

    def _send_state(self) -> None:
        """Everything that is so now."""
        discovery = self._discovery()
        with self._changed:
            for message in (self._availability, *discovery, *self._kept.values()):
                self._send(message)

    def _pump(self, connection: Connection, drain: Drain) -> None:
        """Send what may be sent now: state, then the wish for commands, then all the rest."""
        self._watch_liveness()
        with self._changed:
            while self._due and connection.room > 0:
                connection.publish(self._due.pop(next(iter(self._due))))
            if self._due:
                return
            if not self._subscribed:
                connection.subscribe(self._commands.topics)
                self._subscribed = True
            while self._telemetry and connection.idle:
                connection.publish(Message(self._topics.faces, self._telemetry.popleft()))
            self._changed.notify_all()
        drain.pump()

    def _watch_liveness(self) -> None:
        payload = ONLINE if self._liveness.alive() else OFFLINE
        if payload != self._availability.payload:
            self._availability = self._presence(payload)
            self._send(self._availability)

    def _presence(self, payload: bytes) -> Message:
        return Message(self._topics.availability, payload, retain=True, qos=1)

    def _note_refusal(self, answer: Acknowledged) -> None:
        """Tell once that the broker does not take what is sent to a topic, and when it does."""
        refused = answer.reception is Reception.REFUSED
        if refused and answer.topic not in self._refused:
            self._refused.add(answer.topic)
            logger.warning(
                "the broker refuses messages",
                extra={"topic": answer.topic, "reason": answer.reason},
            )
        elif not refused and answer.topic in self._refused:
            self._refused.remove(answer.topic)
            logger.info("the broker takes messages again", extra={"topic": answer.topic})

    def _say_goodbye(self, connection: Connection, drain: Drain) -> None:
        """Send what is under way, then that this device is gone; all in a short time."""
        now = self._clock.monotonic()
        while self._is_busy(connection, drain) and self._clock.monotonic() < now + FLUSH_TIMEOUT:
            self._turn(connection, drain)
        farewell = connection.publish(self._presence(OFFLINE))
        while self._clock.monotonic() < now + FAREWELL_TIMEOUT:
            for happening in connection.turn(LOOP_INTERVAL):
                if isinstance(happening, Acknowledged):
                    drain.note(happening)
                    if happening.number == farewell:
                        connection.disconnect()
                        return
        # Without an answer there is no leave, either: the last will says it in our place.

    def _is_busy(self, connection: Connection, drain: Drain) -> bool:
        return bool(self._due or self._telemetry or not connection.idle or not drain.resting)

    def _forget_connection(self) -> None:
        with self._changed:
            self._connection = None
            self._due.clear()
            self.dropped += len(self._telemetry)
            self._telemetry.clear()
            self._changed.notify_all()
