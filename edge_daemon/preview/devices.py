"""The devices of the same broker, by their retained messages, for the page `devices.html`.

The subscription exists only while the page is open. The number of devices, the size of a message
and the number of messages are limited, since anyone who may publish could send more.
"""

import logging
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, Field

from edge_daemon._lib.clock import Clock, FloodDetector
from edge_daemon._lib.text import printable, shortened
from edge_daemon.config.settings import Settings
from edge_daemon.pipeline import Busy, Service
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.messages import (
    Availability,
    Message,
    MessageKind,
    device_and_kind,
    topic_filters,
)
from edge_daemon.publishing.subscription import (
    CONNECTING,
    MAX_DEVICES,
    Content,
    RejectedError,
    Subscription,
    read,
)
from edge_daemon.records import SourceState
from edge_daemon.schema import DominantEmotion, HealthMessage, StateMessage, Timestamp

logger = logging.getLogger(__name__)

KINDS: Final = (MessageKind.AVAILABILITY, MessageKind.STATE, MessageKind.HEALTH)

MAX_PAYLOAD_BYTES: Final = 4096
"""A health message has about 800 bytes."""

MAX_TEXT_LENGTH: Final = 40
"""Characters of a text from another device."""

MAX_MESSAGES: Final = 5000
"""Messages in ten seconds; more are a flood."""

FLOOD_PAUSE_S: Final = 60.0
"""Time without a subscription after a flood."""

IDLE_S: Final = 10.0
"""Time after the page's last request until the subscription ends."""

RECEIVE_S: Final = 0.25

BrokerState = Literal["none", "connecting", "connected", "disconnected", "flood"]

Status = Literal["running", "starting", "paused", "lost", "offline", "stale", "unknown"]
"""The state of a device's source, or why it is not known."""


class DeviceRow(BaseModel, frozen=True):
    """A device on the page; null stands for what is not known."""

    name: str
    is_self: bool
    status: Status
    age_s: float | None = Field(description="Age of its newest message, in seconds.")
    faces: int | None = None
    emotion: DominantEmotion | None = None
    since: Timestamp | None = None
    fps: float | None = None
    latency_ms: float | None = Field(None, description="95th percentile.")
    temperature_c: float | None = None
    is_throttled: bool = False
    queued_events: int | None = None
    uptime_s: float | None = None
    version: str | None = None


class Devices(BaseModel, frozen=True):
    """What the page shows."""

    broker: BrokerState
    address: str = Field(description="Host and port of the broker; empty without one.")
    reason: str = Field(description="Why there is no connection, or what the broker refuses.")
    is_full: bool = Field(description="Whether more devices publish than the table has room for.")
    devices: tuple[DeviceRow, ...] = Field(description="In the order of their names.")


@dataclass
class _Device:
    availability: Availability | None = None
    state: StateMessage | None = None
    health: HealthMessage | None = None
    fresh_at: float | None = None
    """When its newest message was made, on the monotonic clock."""

    def status(self, age_s: float | None, stale_after_s: float) -> Status:
        if self.availability is Availability.OFFLINE:
            return "offline"
        if age_s is not None and age_s > stale_after_s:
            return "stale"
        if self.state is not None and self.state.paused:
            return "paused"
        return "unknown" if self.health is None else self.health.source.value


class DeviceTable:
    """The latest messages of a limited number of devices. Any thread may use it.

    Args:
        base: what all topics begin with.
        own_name: this device, which always has a row, one of MAX_DEVICES.
        stale_after_s: age of the newest message from which on a device's figures are stale.
        clock: the clock to use.
    """

    def __init__(self, base: str, own_name: str, stale_after_s: float, clock: Clock) -> None:
        self.is_full = False
        """Whether there was no room for a device."""
        self._base = base
        self._own_name = own_name
        self._stale_after_s = stale_after_s
        self._clock = clock
        self._devices: dict[str, _Device] = {}
        self._lock = threading.Lock()

    def take(self, message: Message) -> None:
        """Keep what a message reports; ignore what is invalid, too large or beyond the limit."""
        topic_parts = device_and_kind(self._base, message.topic)
        if topic_parts is None or len(message.payload) > MAX_PAYLOAD_BYTES:
            return
        name, kind = topic_parts
        if kind not in KINDS:
            return
        with self._lock:
            if not message.payload:  # the retained message was deleted
                self._devices.pop(name, None)
            elif not self._has_room_for(name):
                self.is_full = True
            else:
                with suppress(RejectedError):
                    _, content = read(kind, message.payload)
                    self._keep(name, content, is_retained=message.retain)

    def clear(self) -> None:
        """Forget all devices."""
        with self._lock:
            self._devices.clear()
            self.is_full = False

    def rows(self) -> tuple[DeviceRow, ...]:
        """The devices in the order of their names."""
        with self._lock:
            return tuple(self._row(name, self._devices[name]) for name in sorted(self._devices))

    def _has_room_for(self, name: str) -> bool:
        others = len(self._devices.keys() - {self._own_name})
        return name in self._devices or name == self._own_name or others < MAX_DEVICES - 1

    def _keep(self, name: str, content: Content, *, is_retained: bool) -> None:
        device = self._devices.setdefault(name, _Device())
        if isinstance(content, Availability):
            device.availability = content
            return
        if isinstance(content, StateMessage):
            device.state = content
        elif isinstance(content, HealthMessage):
            device.health = content
        age_s = (self._clock.now() - content.time).total_seconds() if is_retained else 0.0
        made_at = self._clock.monotonic() - max(0.0, age_s)
        device.fresh_at = max(made_at, device.fresh_at or made_at)

    def _row(self, name: str, device: _Device) -> DeviceRow:
        at = device.fresh_at
        age_s = None if at is None else round(self._clock.monotonic() - at, 1)
        status = device.status(age_s, self._stale_after_s)
        row = DeviceRow(name=name, is_self=name == self._own_name, status=status, age_s=age_s)
        # What was true before an interruption would mislead.
        is_alive = status not in {"offline", "stale"}
        figures = {} if device.health is None or not is_alive else _health_fields(device.health)
        if device.state is not None and status == "running":
            state = device.state
            figures |= {"faces": state.faces, "emotion": state.emotion, "since": state.since}
        return row.model_copy(update=figures)


def _health_fields(health: HealthMessage) -> dict[str, object]:
    is_running = health.source is SourceState.RUNNING
    return {
        "fps": health.fps_out if is_running else None,
        "latency_ms": health.latency_ms.p95 if is_running and health.latency_ms else None,
        "temperature_c": health.cpu_temperature_c,
        "is_throttled": bool(health.throttled),
        "queued_events": health.event_queue.depth,
        "uptime_s": health.uptime_s,
        "version": printable(shortened(health.version, MAX_TEXT_LENGTH)),
    }


NO_BROKER: Final = Devices(broker="none", address="", reason="", is_full=False, devices=())


class DeviceMonitor(Service):
    """Subscribes to all devices of the broker, while requests for them come.

    Args:
        settings: the daemon's settings.
        clock: the clock to use.
    """

    name = "devices"
    is_hang_fatal = False
    is_failure_fatal = False

    def __init__(self, settings: Settings, clock: Clock) -> None:
        mqtt = settings.mqtt
        self._broker = broker_from(mqtt)
        self._filters = topic_filters(mqtt.base_topic, kinds=KINDS)
        stale_after_s = float(settings.homeassistant.expire_after)
        self._table = DeviceTable(mqtt.base_topic, settings.device_id, stale_after_s, clock)
        self._clock = clock
        self._state: tuple[BrokerState, str] = ("connecting", "")
        self._requested_at = float("-inf")
        self._changed = threading.Condition()
        self._is_stopping = False

    def devices(self) -> Devices:
        """The devices as they are now. Keeps the subscription for a while."""
        with self._changed:
            self._requested_at = self._clock.monotonic()
            self._changed.notify_all()
        state, reason = self._state
        return Devices(
            broker=state,
            address=self._broker.address,
            reason=reason,
            is_full=self._table.is_full,
            devices=self._table.rows(),
        )

    def run(self, busy: Busy) -> None:
        """Serve until `stop` is called."""
        while self._wait_for_request():
            if self._receive_until_idle(busy):
                self._state = "flood", ""
                logger.warning(
                    "too many messages of devices, unsubscribing", extra={"seconds": FLOOD_PAUSE_S}
                )
                self._wait_for_stop(FLOOD_PAUSE_S)

    def stop(self) -> None:
        """End `run` soon."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    @property
    def _is_requested(self) -> bool:
        age_s = self._clock.monotonic() - self._requested_at
        return age_s < IDLE_S and not self._is_stopping

    def _wait_for_request(self) -> bool:
        """Wait for a request, and return whether one came before `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_requested or self._is_stopping)
            return not self._is_stopping

    def _wait_for_stop(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping, seconds)

    def _receive_until_idle(self, busy: Busy) -> bool:
        """Update the table while requests come, and return whether a flood has ended that."""
        self._state = "connecting", ""
        floods = FloodDetector(self._clock, MAX_MESSAGES)
        with closing(self._subscribe()) as subscription:
            while self._is_requested:
                with busy:
                    for message in subscription.receive(RECEIVE_S):
                        self._table.take(message)
                        if floods.count():
                            return True
                self._state = _state(subscription)
            # Before it unsubscribes, so that the page never shows rows that are no longer updated.
            self._table.clear()
        return False

    def _subscribe(self) -> Subscription:
        # The publisher logs problems with the same broker.
        return Subscription(
            self._broker, self._filters, lambda _line: None, self._clock, role="preview"
        )


def _state(subscription: Subscription) -> tuple[BrokerState, str]:
    match subscription.problem:
        case None:
            return "connected", "; ".join(subscription.refusals)
        case problem if problem == CONNECTING:
            return "connecting", ""
        case problem:
            return "disconnected", printable(shortened(problem))
