"""A client that stays connected to the broker: the daemon, `watch` and single messages share it."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from edge_daemon._lib.clock import Clock, SystemClock, backoff_delays
from edge_daemon.errors import BrokerError, SettingsError
from edge_daemon.pipeline import in_thread
from edge_daemon.publishing.broker import Broker, with_hint
from edge_daemon.publishing.messages import (
    QOS_NOT_SUPPORTED,
    RETAIN_NOT_SUPPORTED,
    UNSUPPORTED_VERSION,
    Acknowledged,
    CannotPublish,
    ClosedByPeer,
    ConnectionAccepted,
    ConnectionEnded,
    ConnectionRefused,
    ConnectOptions,
    Limits,
    Message,
    Notification,
    PacketTooLarge,
    PublishOutcome,
    TakenOver,
    Version,
)
from edge_daemon.publishing.mqtt import Connection

logger = logging.getLogger(__name__)

STABLE_S: Final = 5.0
"""Duration of a connection after which the delays before reconnecting start again from short."""

MAX_SHORT: Final = 3
"""Consecutive shorter connections after which the connection counts as unstable."""

DUPLICATE_DELAY_S: Final = 60.0
"""Mean delay after another client with the same ID has connected."""

PUBLISH_TIMEOUT_S: Final = 10.0
"""Limit on the delivery of a single message."""

POLL_INTERVAL_S: Final = 0.2


@dataclass(frozen=True)
class Connected:
    """The broker has accepted a connection."""

    version: Version
    limits: Limits
    away_s: float | None
    """Time without a connection; None for the first one."""
    is_unstable: bool
    """Whether connections repeatedly end after a short time."""


@dataclass(frozen=True)
class Disconnected:
    """A connection has ended, or an attempt has failed."""

    cause: ConnectionEnded
    reason: str
    """The cause, with a hint where one exists."""
    is_new: bool
    """Whether this is the first failure since the last connection."""
    away_s: float
    """Time since that failure."""
    is_unstable: bool


Update = Connected | Disconnected | Notification


class MqttClient:
    """Connects to the broker, and again whenever a connection ends. Polled by one thread.

    Args:
        broker: where to connect.
        client_id: the client ID, which no other client may have; empty: the broker assigns one.
        clock: the clock to use.
        will: what the broker publishes when the connection is lost.
        read_broker: reads the broker's credentials again before each connection, as certificates
            and passwords are renewed; it may raise a SettingsError. None: they stay the same.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        clock: Clock,
        will: Message | None = None,
        *,
        read_broker: Callable[[], Broker] | None = None,
    ) -> None:
        self.broker = broker
        self._read_broker = read_broker
        self._credentials_error = ""
        self.connection_count = 0
        """Connections that the broker has accepted."""
        self._client_id = client_id
        self._clock = clock
        self._options = ConnectOptions(self._preferred_version, will)
        self._connection: Connection | None = None
        self._opening: Future[None] | None = None
        self._accepted_at: float | None = None
        self._away_since: float | None = None
        self._short_count = 0
        self._delays = backoff_delays()
        self._next_attempt = clock.monotonic()
        self._woken = threading.Event()

    @property
    def connection(self) -> Connection | None:
        """The connection, while the broker accepts messages over it."""
        connection = self._connection
        return connection if connection is not None and connection.is_accepted else None

    def poll(self, timeout_s: float) -> list[Update]:
        """Connect if necessary, then read and write for a limited time.

        Returns:
            What happened in that time.
        """
        try:
            if self._connection is None and not self._wait_for_attempt(timeout_s):
                return []
            connection = self._connection or self._start_opening()
            if self._opening is not None:
                wait([self._opening], timeout_s)
                if not self._opening.done():
                    return []
                opening, self._opening = self._opening, None
                opening.result()
            return [self._on_notification(one) for one in connection.poll(timeout_s)]
        except ConnectionEnded as end:
            return self._on_end(end)

    def wake(self) -> None:
        """End the wait in `poll`. Called from other threads."""
        self._woken.set()
        if (connection := self._connection) is not None:
            connection.wake()

    def close(self) -> None:
        """Close the connection. Without `Connection.disconnect`, the broker publishes the will."""
        connection, self._connection = self._connection, None
        if self._opening is not None and connection is not None:
            # Name resolution can hang; its thread closes the connection when it returns.
            self._opening.add_done_callback(lambda _: connection.close())
        elif connection is not None:
            connection.close()
        self._opening = None

    def _wait_for_attempt(self, timeout_s: float) -> bool:
        """Wait until the next attempt, for a limited time."""
        if (delay := self._next_attempt - self._clock.monotonic()) > 0:
            self._woken.wait(min(delay, timeout_s))
            self._woken.clear()
        return delay <= 0

    def _start_opening(self) -> Connection:
        self._accepted_at = None
        try:
            connection = Connection(self.broker, self._client_id, self._options, self._clock)
        except OSError as error:  # too many open files
            raise ConnectionEnded(str(error.strerror)) from error
        self._connection = connection
        self._opening = in_thread("mqtt-connect", partial(self._open, connection))
        return connection

    def _open(self, connection: Connection) -> None:
        """Open the connection, in a thread of its own: disks and name servers can hang."""
        if self._read_broker is not None:
            try:
                self.broker = self._read_broker()
                self._credentials_error = ""
            except SettingsError as error:
                if str(error) != self._credentials_error:
                    self._credentials_error = str(error)
                    logger.warning(
                        "could not read credentials, using the previous ones",
                        extra={"error": str(error)},
                    )
        connection.open(self.broker)

    def _on_notification(self, notification: Notification) -> Update:
        if not isinstance(notification, ConnectionAccepted):
            return notification
        now = self._clock.monotonic()
        away_s = None if self._away_since is None else round(now - self._away_since, 1)
        self.connection_count += 1
        self._accepted_at, self._away_since = now, None
        version = self._options.version
        return Connected(version, notification.limits, away_s, self._is_unstable)

    def _on_end(self, end: ConnectionEnded) -> list[Update]:
        now = self._clock.monotonic()
        lasted = None if self._accepted_at is None else now - self._accepted_at
        self.close()
        retry = self._adapted(end)
        if retry is not None:
            self._options, self._next_attempt = retry, now
            return []
        self._options = replace(
            self._options,
            version=self._preferred_version,
            is_session_discarded=isinstance(end, PacketTooLarge),
        )
        self._note_duration(lasted)
        self._next_attempt = now + self._delay(end)
        is_new = self._away_since is None
        if self._away_since is None:
            self._away_since = now
        away_s = now - self._away_since
        return [Disconnected(end, self._reason(end), is_new, away_s, self._is_unstable)]

    @property
    def _preferred_version(self) -> Version:
        return "3.1.1" if self.broker.protocol == "3.1.1" else "5"

    def _adapted(self, end: ConnectionEnded) -> ConnectOptions | None:
        """How to connect at once after a refusal, if the broker supports less than was asked."""
        code, will = end.code if isinstance(end, ConnectionRefused) else 0, self._options.will
        if code == UNSUPPORTED_VERSION and self.broker.protocol == "auto":
            # For one connection only, as a broker that starts up can refuse version 5, too.
            if self._options.version == "5":
                return replace(self._options, version="3.1.1")
        elif code == RETAIN_NOT_SUPPORTED and will is not None and will.retain:
            return replace(self._options, will=replace(will, retain=False))
        elif code == QOS_NOT_SUPPORTED and will is not None and will.qos:
            return replace(self._options, will=replace(will, qos=0))
        return None

    def _note_duration(self, lasted_s: float | None) -> None:
        if lasted_s is None:
            return
        if lasted_s >= STABLE_S:
            self._short_count = 0
            self._delays = backoff_delays()
        else:
            self._short_count += 1

    @property
    def _is_unstable(self) -> bool:
        return self._short_count > MAX_SHORT

    def _delay(self, end: ConnectionEnded) -> float:
        if isinstance(end, TakenOver):
            return DUPLICATE_DELAY_S * random.uniform(0.5, 1.5)  # noqa: S311  # not a secret
        return next(self._delays)

    def _reason(self, end: ConnectionEnded) -> str:
        is_suspicious = isinstance(end, ClosedByPeer) and self._short_count >= MAX_SHORT
        if is_suspicious or isinstance(end, TakenOver):
            return f"{end}; another client may have the client ID {self._client_id}"
        return str(end)


def publish_single(broker: Broker, message: Message, timeout_s: float = PUBLISH_TIMEOUT_S) -> str:
    """Connect, publish a message with QoS 1, wait for the acknowledgement, and disconnect.

    Returns:
        The version of MQTT.

    Raises:
        BrokerError: the broker cannot be reached, refuses, or does not answer in time.
    """
    # The broker assigns the client ID, as the daemon's would disconnect the daemon.
    client = MqttClient(replace(broker, session_expiry=0), "", SystemClock())
    with contextlib.closing(client):
        version = "5"
        for update in _updates(client, timeout_s):
            match update:
                case Disconnected():
                    raise BrokerError(f"broker {broker.address}: {with_hint(update.reason)}")
                case Connected():
                    version = update.version
                    _publish(client, message)
                case Acknowledged() if update.outcome is PublishOutcome.REFUSED:
                    raise BrokerError(
                        f"broker {broker.address}: {message.topic}: "
                        + with_hint(f"refused: {update.reason}")
                    )
                case Acknowledged():
                    if client.connection is not None:
                        client.connection.disconnect()
                    return version
    reason = with_hint(f"no answer for {timeout_s:g} s")
    raise BrokerError(f"broker {broker.address}: {reason}")


def _updates(client: MqttClient, timeout_s: float) -> Iterator[Update]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield from client.poll(POLL_INTERVAL_S)


def _publish(client: MqttClient, message: Message) -> None:
    if client.connection is not None:
        try:
            client.connection.publish(message)
        except CannotPublish as error:
            raise BrokerError(
                f"broker {client.broker.address}: {message.topic}: {error}"
            ) from error
