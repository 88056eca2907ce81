"""Messages from the broker: the pause switch, the availability, and the start of Home Assistant.

A command is acknowledged after it is carried out, so that the broker sends it again if the daemon
or the connection ends before that. Messages are acknowledged in the order of their arrival, as MQTT
requires (MQTT-4.6.0-2), so later ones wait for that.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_daemon._lib.clock import Clock, FloodDetector
from edge_daemon.pipeline import Busy, Service
from edge_daemon.publishing.messages import ConnectionEnded, PacketTooLarge, Received, Subscribed
from edge_daemon.publishing.state import ONLINE, OverwriteDetector

if TYPE_CHECKING:  # `watch` imports this module, and must not load OpenCV
    from edge_daemon.capture.status import Pause
    from edge_daemon.publishing.mqtt import Connection

logger = logging.getLogger(__name__)

POSITIONS: Final = {b"ON": True, b"OFF": False}
"""Payloads of a switch."""

MAX_LOGGED_BYTES: Final = 40
"""Part of an invalid command in the log."""

MIN_INTERVAL_S: Final = 0.5
"""Time between two commands that are carried out; of those in between, only the last counts."""

CHECK_INTERVAL_S: Final = 0.05
"""Time between two checks whether the camera is closed."""

MAX_MESSAGES: Final = 100
"""Messages in ten seconds; more are a flood."""

UNSUBSCRIBED_S: Final = 60.0
"""Time without subscriptions after a flood of messages, or packets that are too large."""

BIRTH_INTERVAL_S: Final = 10.0
"""Time between two responses to Home Assistant's birth message."""

# A pause that cannot be saved can stay unacknowledged for months, and messages behind it wait. A
# broker sends only so many without an acknowledgement: RabbitMQ 10, mosquitto 20, and with MQTT 5
# at most MAX_RECEIVED_UNACKNOWLEDGED. At that limit, the command to resume could not arrive. So the
# first of too many is acknowledged early, and a restart then resumes. That takes long, as a lasting
# connection brings few messages with QoS 1: Home Assistant uses QoS 0 for its birth message.
MAX_WAITING: Final = 8
"""Messages that wait for the acknowledgement of an earlier one."""


@dataclass(eq=False)
class Delivery:
    """A message from the broker, and whether it may be acknowledged."""

    received: Received
    is_complete: bool = False


class PauseCommands(Service):
    """Carries out pause commands, of several waiting ones only the newest.

    Args:
        topic: where the commands come from.
        pause: the privacy switch.
        is_closed: whether the camera is closed because of a pause.
        on_completed: called, in this service's thread, when a command may be acknowledged.
    """

    name = "commands"
    is_hang_fatal = False

    def __init__(
        self,
        topic: str,
        pause: "Pause",
        is_closed: Callable[[], bool],
        on_completed: Callable[[], None],
    ) -> None:
        self.topic = topic
        self._pause = pause
        self._is_closed = is_closed
        self._on_completed = on_completed
        self._changed = threading.Condition()
        self._waiting: Delivery | None = None
        self._newest: Delivery | None = None
        self._unsaved: Delivery | None = None
        """A pause that is not saved, which the broker keeps for the next start."""
        self._stopping = False
        self._logged: set[str] = set()

    def submit(self, command: Delivery) -> None:
        """Accept a message from the broker, to carry it out soon. Does not wait."""
        if command.received.retained:
            # The broker would send it at every connect, long after it was published.
            self._reject(command, "retained command ignored, publish it without retain")
        elif command.received.payload not in POSITIONS:
            self._reject(command, "invalid command ignored, must be ON or OFF")
        else:
            with self._changed:
                if self._newest is not None:
                    # The broker need not repeat it, as it would repeat the one that overrides it.
                    self._newest.is_complete = True
                self._newest = self._waiting = command
                self._changed.notify_all()

    def release_if_resumed(self) -> None:
        """Let a pause that is not saved be acknowledged once it is lifted, as in the preview."""
        with self._changed:
            if self._unsaved is not None and not self._pause.paused:
                self._unsaved.is_complete = True
                self._unsaved = None

    def run(self, busy: Busy) -> None:
        """Carry out commands until `stop` is called."""
        while (command := self._next()) is not None:
            is_paused = POSITIONS[command.received.payload]
            with busy:
                is_saved = self._pause.set(is_paused)
            while is_paused and self._is_closing:
                self._wait(CHECK_INTERVAL_S)
            with self._changed:
                self._unsaved = command if is_paused and not is_saved else None
                command.is_complete |= self._unsaved is None
            self._on_completed()
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, MIN_INTERVAL_S)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    @property
    def _is_closing(self) -> bool:
        """Whether the camera is to be closed and is not. The preview can resume it in between."""
        return self._pause.paused and not self._is_closed() and not self._is_superseded

    @property
    def _is_superseded(self) -> bool:
        return self._stopping or self._waiting is not None

    def _next(self) -> Delivery | None:
        with self._changed:
            while self._waiting is None and not self._stopping:
                self._changed.wait()
            command, self._waiting = self._waiting, None
            return None if self._stopping else command

    def _wait(self, seconds: float) -> None:
        with self._changed:
            if not self._stopping:
                self._changed.wait(seconds)

    def _reject(self, command: Delivery, event: str) -> None:
        command.is_complete = True
        if event not in self._logged:
            self._logged.add(event)
            received = command.received
            payload = repr(received.payload[:MAX_LOGGED_BYTES])
            logger.warning(event, extra={"topic": received.topic, "command": payload})


class Inbox:
    """Subscribes, and passes on what arrives. Used by the network's thread.

    Args:
        commands: carries out commands; None: there are none.
        overwrites: receives the availability that the broker delivers.
        birth_topic: Home Assistant's birth topic; None: not subscribed.
        clock: the clock to use.
    """

    def __init__(
        self,
        commands: PauseCommands | None,
        overwrites: OverwriteDetector,
        birth_topic: str | None,
        clock: Clock,
    ) -> None:
        self._commands = commands
        self._overwrites = overwrites
        self._birth_topic = birth_topic
        self._clock = clock
        self._topics = [] if commands is None else [commands.topic]
        if birth_topic is not None:
            self._topics.append(birth_topic)
        self._unacknowledged: deque[Delivery] = deque()
        """Messages of the current connection, in the order of their arrival."""
        self._is_early_logged = False
        self._floods = FloodDetector(clock, MAX_MESSAGES)
        self._oversized = 0
        """Consecutive connections that ended because of a large packet."""
        self._subscribe_at: float | None = None
        """When to subscribe; None if it is done."""
        self._is_birth_due = False
        self._birth_response_at = float("-inf")

    def on_connected(self) -> None:
        """Plan the subscriptions of a new connection."""
        self._unacknowledged.clear()  # the broker sends them again, if it keeps the session
        # After two large packets, the messages on the subscribed topics are the cause.
        delay_s = 0.0 if self._oversized < 2 else UNSUBSCRIBED_S
        self._subscribe_at = self._clock.monotonic() + delay_s

    def on_disconnected(self, cause: ConnectionEnded) -> None:
        """Note why a connection ended."""
        self._oversized = self._oversized + 1 if isinstance(cause, PacketTooLarge) else 0

    def subscribe_if_due(self, connection: "Connection") -> None:
        """Subscribe, if it is time."""
        if self._subscribe_at is not None and self._clock.monotonic() >= self._subscribe_at:
            self._subscribe_at = None
            connection.subscribe([self._overwrites.topic], with_retained=True)
            if self._topics:
                connection.subscribe(self._topics)

    def on_subscribed(self, response: Subscribed) -> None:
        """Log the topics that the broker refuses."""
        if response.refusals:
            logger.warning("subscription refused", extra={"topics": ", ".join(response.refusals)})

    def on_received(self, connection: "Connection", received: Received) -> None:
        """Pass a message on; after too many, unsubscribe for a while."""
        if self._floods.count() and self._subscribe_at is None:
            self._subscribe_at = self._clock.monotonic() + UNSUBSCRIBED_S
            connection.unsubscribe([self._overwrites.topic, *self._topics])
            logger.warning(
                "too many messages, unsubscribing",
                extra={"topic": received.topic, "seconds": UNSUBSCRIBED_S},
            )
        delivery = Delivery(received)
        if received.qos:
            self._unacknowledged.append(delivery)
        if self._commands is not None and received.topic == self._commands.topic:
            self._commands.submit(delivery)
        else:
            if received.topic == self._overwrites.topic:
                self._overwrites.on_received(received.payload)
            elif received.topic == self._birth_topic:
                self._is_birth_due |= received.payload == ONLINE and not received.retained
            delivery.is_complete = True
        self.acknowledge(connection)

    def acknowledge(self, connection: "Connection") -> None:
        """Acknowledge complete messages, up to the first that is not."""
        if self._commands is not None:
            self._commands.release_if_resumed()
        while self._unacknowledged and self._is_first_due:
            connection.acknowledge(self._unacknowledged.popleft().received)

    @property
    def _is_first_due(self) -> bool:
        first, waiting = self._unacknowledged[0], len(self._unacknowledged) - 1
        is_early = not first.is_complete and waiting > MAX_WAITING
        if is_early and not self._is_early_logged:
            self._is_early_logged = True
            logger.warning(
                "pending command acknowledged, too many messages wait",
                extra={"topic": first.received.topic},
            )
        return first.is_complete or is_early

    def take_birth(self) -> bool:
        """Whether to send all state now, since Home Assistant has started; true once for each."""
        now = self._clock.monotonic()
        if not self._is_birth_due or now < self._birth_response_at + BIRTH_INTERVAL_S:
            return False
        self._birth_response_at, self._is_birth_due = now, False
        return True
