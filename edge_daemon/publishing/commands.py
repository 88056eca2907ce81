"""Messages from the broker: the pause switch, the availability, and the start of Home Assistant.

A command is acknowledged after it is carried out, so that the broker sends it again if the daemon
or the connection ends before that.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
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


class PauseCommands(Service):
    """Carries out pause commands, of several waiting ones only the newest.

    Args:
        topic: where the commands come from.
        pause: the privacy switch.
        is_closed: whether the camera is closed because of a pause.
        on_completed: called, in this service's thread, when a command can be acknowledged.
    """

    name = "commands"
    is_essential = False

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
        self._waiting: tuple[Connection, Received] | None = None
        self._completed: deque[tuple[Connection, Received]] = deque()
        self._kept: tuple[Connection, Received] | None = None
        """A pause that is not saved, which the broker keeps for the next start."""
        self._stopping = False
        self._logged: set[str] = set()

    def submit(self, connection: "Connection", received: Received) -> None:
        """Accept a message from the broker, to carry it out soon. Does not wait."""
        with self._changed:
            if received.retained:
                # The broker would send it at every connect, long after it was published.
                self._reject(received, "retained command ignored, publish it without retain")
            elif received.payload not in POSITIONS:
                self._reject(received, "invalid command ignored, must be ON or OFF")
            else:
                if self._waiting is not None:
                    self._completed.append(self._waiting)
                self._waiting = connection, received
                self._changed.notify_all()
                return
            self._completed.append((connection, received))
        self._on_completed()

    def acknowledge(self, current: "Connection") -> None:
        """Acknowledge completed commands that came over the current connection."""
        with self._changed:
            if not self._pause.paused:  # resumed, by a command or in the preview
                self._release_kept()
        while self._completed:
            connection, received = self._completed.popleft()
            if connection is current:
                connection.acknowledge(received)

    def run(self, busy: Busy) -> None:
        """Carry out commands until `stop` is called."""
        while (command := self._next()) is not None:
            _, received = command
            is_paused = POSITIONS[received.payload]
            with busy:
                is_saved = self._pause.set(is_paused)
            while is_paused and self._is_closing:
                self._wait(CHECK_INTERVAL_S)
            self._complete(command, is_kept=is_paused and not is_saved)
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

    def _next(self) -> "tuple[Connection, Received] | None":
        with self._changed:
            while self._waiting is None and not self._stopping:
                self._changed.wait()
            command, self._waiting = self._waiting, None
            return None if self._stopping else command

    def _complete(self, command: "tuple[Connection, Received]", *, is_kept: bool) -> None:
        """Let a command be acknowledged, unless the broker keeps it for the next start.

        The one before is then obsolete: the broker would send it again at the next connect.
        """
        with self._changed:
            self._release_kept()
            if is_kept:
                self._kept = command
            else:
                self._completed.append(command)
        self._on_completed()

    def _release_kept(self) -> None:
        if self._kept is not None:
            self._completed.append(self._kept)
            self._kept = None

    def _wait(self, seconds: float) -> None:
        with self._changed:
            if not self._stopping:
                self._changed.wait(seconds)

    def _reject(self, received: Received, event: str) -> None:
        if event not in self._logged:
            self._logged.add(event)
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
        self._floods = FloodDetector(clock, MAX_MESSAGES)
        self._oversized = 0
        """Consecutive connections that ended because of a large packet."""
        self._subscribe_at: float | None = None
        """When to subscribe; None if it is done."""
        self._is_birth_due = False
        self._birth_response_at = float("-inf")

    def on_connected(self) -> None:
        """Plan the subscriptions of a new connection."""
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
        if self._commands is not None and received.topic == self._commands.topic:
            self._commands.submit(connection, received)
            return
        if received.topic == self._overwrites.topic:
            self._overwrites.on_received(received.payload)
        elif received.topic == self._birth_topic:
            self._is_birth_due |= received.payload == ONLINE and not received.retained
        connection.acknowledge(received)

    def acknowledge(self, connection: "Connection") -> None:
        """Acknowledge completed commands."""
        if self._commands is not None:
            self._commands.acknowledge(connection)

    def take_birth(self) -> bool:
        """Whether to send all state now, since Home Assistant has started; true once for each."""
        now = self._clock.monotonic()
        if not self._is_birth_due or now < self._birth_response_at + BIRTH_INTERVAL_S:
            return False
        self._birth_response_at, self._is_birth_due = now, False
        return True
