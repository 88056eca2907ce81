"""Results over MQTT: the pipeline's last step, and the service that owns the network.

Three classes of delivery:

- state: only the latest counts. It is kept, and sent again after every connect.
- events: each counts. They stay in the event queue until the broker has acknowledged them.
- telemetry: what cannot be sent now is dropped and counted.

The service's thread never uses the disk.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from edge_daemon._lib.clock import Clock
from edge_daemon.config.settings import MqttSettings
from edge_daemon.pipeline import BackPressure, Busy, Service
from edge_daemon.publishing.client import Connected, Disconnected, MqttClient
from edge_daemon.publishing.commands import Inbox, PauseCommands
from edge_daemon.publishing.event_queue import EventQueue
from edge_daemon.publishing.event_sender import EventSender
from edge_daemon.publishing.messages import (
    Acknowledged,
    CannotPublish,
    Limits,
    Message,
    PublishOutcome,
    Received,
    Subscribed,
    Topics,
)
from edge_daemon.publishing.mqtt import Connection
from edge_daemon.publishing.state import AvailabilityMonitor, OverwriteDetector
from edge_daemon.records import FrameResult
from edge_daemon.schema import EventQueueStatus, faces_payload

logger = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 0.2

FLUSH_TIMEOUT_S: Final = 0.6
"""At the end: time for the messages that wait."""

DISCONNECT_TIMEOUT_S: Final = 0.9
"""At the end: time for everything, including `offline`."""

MAX_TELEMETRY: Final = 16
"""Results that wait for the network."""

LASTING_S: Final = 60.0
"""Time without a connection after which that is logged also where connections often end soon."""


class MqttPublisher(Service):
    """Publishes a device's results, and whether it is available.

    Args:
        client: the client, whose will is the availability `offline`.
        topics: the device's topics.
        rate_hz: maximum rate of results in the source's time; one with an event is always sent.
        queue: the events.
        availability: whether results come.
        clock: the clock to use.
        back_pressure: what a step does while the network is busy: `block`, or `drop` the result.
        discovery: what describes the device, sent after every connect.
        commands: carries out commands.
        birth_topic: Home Assistant's birth topic; `online` on it triggers discovery and state.
    """

    name = "mqtt"

    def __init__(
        self,
        client: MqttClient,
        topics: Topics,
        rate_hz: float,
        *,
        queue: EventQueue,
        availability: AvailabilityMonitor,
        clock: Clock,
        back_pressure: BackPressure = "drop",
        discovery: Message | None = None,
        commands: PauseCommands | None = None,
        birth_topic: str | None = None,
    ) -> None:
        self.dropped = 0
        """Results that were never sent."""
        self._client = client
        self._topics = topics
        self._interval_s = 1 / rate_hz
        self._queue = queue
        self._availability = availability
        self._clock = clock
        self._blocks = back_pressure == "block"
        self._discovery = discovery
        self._overwrites = OverwriteDetector(topics.availability, clock)
        self._inbox = Inbox(commands, self._overwrites, birth_topic, clock)
        self._sender = EventSender(queue, topics.event, clock)
        self._next_due_s = float("-inf")
        self._changed = threading.Condition()
        """Guards what threads share; notified when something has been sent."""
        self._stopping = threading.Event()
        self._retained: dict[str, Message] = {}
        self._due: dict[str, Message] = {}
        self._telemetry: deque[bytes] = deque()
        self._sent_availability = availability.current()
        self._refused: set[str] = set()
        """Topics on which the broker refuses messages."""
        self._too_large: set[str] = set()
        """Topics with messages that are too large for the broker."""
        self._logged_limits = Limits()
        self._is_loss_logged = False
        """Whether the present loss of the connection is in the log, above debug level."""
        # A file played to a new broker need not wait for subscribers to return.
        self._has_grace = not self._blocks or queue.depth > 0

    def __call__(self, result: FrameResult) -> None:
        """Add the events to the queue, and publish the result if it is due."""
        # A blank frame is made without the source, also when a stuck stage ends the pipeline.
        if not result.frame.is_blank:
            self._availability.note_result()
        late_s = self._clock.monotonic() - result.frame.captured_monotonic_s
        for event in result.events:
            self._queue.append(event, 1000 * late_s)
        if result.events or self._is_due(result.frame.stream_time_s):
            self._offer(result)
        if result.events and self._blocks:
            self._wait_until(self._are_events_sent)

    def apply(self, settings: MqttSettings) -> None:
        """Change the maximum rate."""
        self._interval_s = 1 / settings.rate

    def publish_retained(self, message: Message) -> None:
        """Publish a state, now and after every connect, until the next one on the same topic."""
        with self._changed:
            self._retained[message.topic] = message
            self._send(message)

    def run(self, busy: Busy) -> None:
        """Stay connected until `stop` is called."""
        try:
            while not self._stopping.is_set():
                with busy:
                    self._poll(POLL_INTERVAL_S)
            with busy:
                self._flush_and_disconnect()
        finally:
            self._queue.close()
            self._client.close()

    def stop(self) -> None:
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._client.wake()

    @property
    def connected(self) -> bool:
        return self._client.connection is not None

    def queued_events(self) -> EventQueueStatus:
        """How the event queue is."""
        return self._queue.status()

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self._client.connection_count - 1)

    # In the pipeline's thread

    def _is_due(self, stream_time_s: float) -> bool:
        # A due time farther away than the interval was set at another rate.
        if stream_time_s < self._next_due_s <= stream_time_s + self._interval_s:
            return False
        # From the last due time, not from this result's, so that the mean rate is right.
        due = self._next_due_s + self._interval_s
        self._next_due_s = due if due > stream_time_s else stream_time_s + self._interval_s
        return True

    def _offer(self, result: FrameResult) -> None:
        """Pass a result to the network thread, if there is room."""
        if self._blocks:
            self._wait_until(self._has_room)
        with self._changed:
            if not self._has_room():
                self.dropped += 1
                return
            self._telemetry.append(faces_payload(result, self._clock))
        self._client.wake()

    def _has_room(self) -> bool:
        return self.connected and len(self._telemetry) < MAX_TELEMETRY

    def _are_events_sent(self) -> bool:
        return self._queue.depth == 0 or self._topics.event in self._refused

    def _wait_until(self, is_fulfilled: Callable[[], bool]) -> None:
        """Wait for the network; results are not missing in the meantime."""
        with self._changed:
            while not (is_fulfilled() or self._stopping.is_set()):
                self._changed.wait(POLL_INTERVAL_S)
                self._availability.note_result()

    # In the network's thread

    def _poll(self, timeout_s: float) -> None:
        connection, delay_s = self._client.connection, self._sender.delay_s
        if delay_s is not None and connection is not None and connection.room > 0:
            timeout_s = min(timeout_s, delay_s)
        for update in self._client.poll(timeout_s):
            match update:
                case Connected():
                    self._on_connected(update)
                case Disconnected():
                    self._on_disconnected(update)
                case Acknowledged():
                    self._sender.on_acknowledged(update)
                    self._log_refusal(update)
                case Subscribed():
                    self._inbox.on_subscribed(update)
                case Received():
                    if (connection := self._client.connection) is not None:
                        self._inbox.on_received(connection, update)
        if (connection := self._client.connection) is not None:
            self._pump(connection)
        self._queue.log_durability()

    def _pump(self, connection: Connection) -> None:
        """Send what can be sent now: state, then subscriptions, then everything else."""
        self._refresh()
        with self._changed:
            while self._due and connection.room > 0:
                self._publish(connection, self._due.pop(next(iter(self._due))))
            if self._due:
                return
            self._inbox.subscribe_if_due(connection)
            while self._telemetry and connection.is_flushed:
                payload = self._telemetry.popleft()
                if self._publish(connection, Message(self._topics.faces, payload)) is None:
                    self.dropped += 1
            self._changed.notify_all()
        self._inbox.acknowledge(connection)
        if connection.room > 0:
            self._sender.send(connection)

    def _publish(self, connection: Connection, message: Message) -> int | None:
        """Publish a message; log once for each topic if it exceeds the broker's limits."""
        if message.topic == self._topics.availability:
            self._overwrites.on_published(message.payload)
        try:
            return connection.publish(message)
        except CannotPublish as error:
            if message.topic not in self._too_large:
                self._too_large.add(message.topic)
                logger.warning(
                    "message not sent", extra={"topic": message.topic, "reason": str(error)}
                )
            return None

    def _refresh(self) -> None:
        """Send the availability when it changes, and all state when Home Assistant has started."""
        availability = self._availability.current()
        if availability != self._sent_availability or self._overwrites.take_repeat():
            self._sent_availability = availability
            self._send(availability)
        if self._inbox.take_birth():
            self._send_state()

    def _send(self, message: Message) -> None:
        """Send a message soon; of two on one topic, only the later."""
        with self._changed:
            if self.connected:
                self._due[message.topic] = message
        self._client.wake()

    def _send_state(self) -> None:
        """Send everything that describes the present.

        The availability comes last, so that no subscriber takes retained values for current ones.
        """
        discovery = [] if self._discovery is None else [self._discovery]
        with self._changed:
            for message in (*discovery, *self._retained.values(), self._sent_availability):
                self._send(message)

    def _on_connected(self, update: Connected) -> None:
        self._sender.begin(with_grace=self._has_grace)
        self._has_grace = True
        self._inbox.on_connected()
        self._sent_availability = self._availability.current()
        self._send_state()
        fields: dict[str, object] = {"broker": self._client.broker.address, "mqtt": update.version}
        if update.away_s is not None:
            depth = self._queue.depth
            fields |= {"away_seconds": update.away_s, "dropped": self.dropped, "queued": depth}
        is_logged = self._is_loss_logged or not update.is_unstable
        self._is_loss_logged = False
        level = logging.INFO if is_logged else logging.DEBUG
        logger.log(level, "connected to the broker", extra=fields)
        self._log_limits(update.limits)

    def _log_limits(self, limits: Limits) -> None:
        if limits != self._logged_limits:
            self._logged_limits = limits
            logger.info(
                "broker has limits",
                extra={
                    "max_packet_bytes": limits.max_packet_bytes,
                    "max_qos": limits.max_qos,
                    "retain": limits.retain_available,
                },
            )

    def _on_disconnected(self, update: Disconnected) -> None:
        with self._changed:
            self._due.clear()
            self.dropped += len(self._telemetry)
            self._telemetry.clear()
            self._changed.notify_all()
        self._inbox.on_disconnected(update.cause)
        is_reported = not update.is_unstable or update.away_s >= LASTING_S
        if update.is_new or (is_reported and not self._is_loss_logged):
            self._is_loss_logged = is_reported
            logger.log(
                logging.WARNING if is_reported else logging.DEBUG,
                "no connection to the broker, retrying",
                extra={"broker": self._client.broker.address, "reason": update.reason},
            )

    def _log_refusal(self, response: Acknowledged) -> None:
        """Log once that the broker refuses messages on a topic, and when it accepts them again."""
        is_refused = response.outcome is PublishOutcome.REFUSED
        if is_refused and response.topic not in self._refused:
            self._refused.add(response.topic)
            logger.warning(
                "broker refuses messages",
                extra={"topic": response.topic, "reason": response.reason},
            )
        elif not is_refused and response.topic in self._refused:
            self._refused.remove(response.topic)
            logger.info("broker accepts messages again", extra={"topic": response.topic})

    def _flush_and_disconnect(self) -> None:
        """Send what waits, then `offline`, in a short time.

        Without the broker's acknowledgement, the will publishes `offline` instead.
        """
        start = self._clock.monotonic()
        while self._is_busy() and self._clock.monotonic() < start + FLUSH_TIMEOUT_S:
            self._poll(POLL_INTERVAL_S)
        if (connection := self._client.connection) is None:
            return
        offline_packet_id = self._publish(connection, self._availability.offline)
        while self._clock.monotonic() < start + DISCONNECT_TIMEOUT_S:
            for update in self._client.poll(POLL_INTERVAL_S):
                if isinstance(update, Disconnected):
                    return
                if isinstance(update, Acknowledged):
                    self._sender.on_acknowledged(update)
                    if update.packet_id == offline_packet_id:
                        connection.disconnect()
                        return

    def _is_busy(self) -> bool:
        if (connection := self._client.connection) is None:
            return False
        is_sending = self._due or self._telemetry or not connection.is_flushed
        return bool(is_sending or not self._sender.is_idle)
