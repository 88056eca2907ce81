"""Publishing of results: over MQTT, or as lines of JSON. This module builds the parts.

An event passes `publisher`, `event_queue`, `event_writer` (disk), `event_sender`, `client` and
`mqtt`; docs/architecture.md has the diagram.
"""

import contextlib
import hashlib
import ipaddress
import math
import socket
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from edge_daemon._lib.clock import Clock
from edge_daemon._lib.terminal import write_line
from edge_daemon._lib.text import Address, authority
from edge_daemon.config.loading import LiveSettings
from edge_daemon.config.settings import (
    HealthSettings,
    MqttSettings,
    Settings,
    SmoothingSettings,
)
from edge_daemon.pipeline import BackPressure, Service, Sink
from edge_daemon.publishing import homeassistant
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.client import MqttClient
from edge_daemon.publishing.commands import PauseCommands
from edge_daemon.publishing.event_queue import EventQueue
from edge_daemon.publishing.event_writer import EventWriter, QueueLimits
from edge_daemon.publishing.messages import Message, Topics
from edge_daemon.publishing.publisher import MqttPublisher
from edge_daemon.publishing.state import (
    AvailabilityMonitor,
    HealthProvider,
    HealthReporter,
    StateReporter,
)
from edge_daemon.records import FrameResult, SourceState
from edge_daemon.schema import faces_payload

if TYPE_CHECKING:  # `watch` imports this package, and must not load OpenCV
    from edge_daemon.capture.status import Pause, SourceStatus

MACHINE_ID: Final = Path("/etc/machine-id")

MAX_MISSED_FRAMES: Final = 3
"""Frame intervals of a slow camera without a result, after which the device is offline."""

OWNER_PLACEHOLDER: Final = "/OWNER/"
"""What stands in the addresses of pyproject.toml until the repository has one."""


class JsonLines:
    """The sink that writes each result as a line of JSON, and flushes it."""

    def __init__(self, stream: BinaryIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    def __call__(self, result: FrameResult) -> None:
        """Write a result.

        Raises:
            OutputClosed: the reader of the stream has closed it.
        """
        write_line(self._stream, faces_payload(result, self._clock))


class MqttPublishing:
    """The steps and services that publish over MQTT.

    Args:
        settings: the settings at the start.
        pause: the privacy switch, which commands set.
        source: how the source is.
        clock: the clock to use.
        resources: receives what must be closed at the end.
        live_settings: receives the parts that follow changes of the settings.
        back_pressure: what a step does while the network is busy: `block`, or `drop` the result.
        has_temperature: whether the machine has a sensor of the CPU's temperature.

    Raises:
        SettingsError: the settings of the broker are not usable.
        StateInUse: another daemon has the events.
    """

    def __init__(
        self,
        settings: Settings,
        pause: "Pause",
        source: "SourceStatus",
        clock: Clock,
        *,
        resources: ExitStack,
        live_settings: LiveSettings,
        back_pressure: BackPressure,
        has_temperature: bool,
    ) -> None:
        self._settings = settings
        self._live_settings = live_settings
        mqtt = settings.mqtt
        topics = Topics(mqtt.base_topic, settings.device_id)
        pause_status = _PauseStatus(pause, source)
        stale_after_s = _stale_after_s(settings, back_pressure)
        availability = AvailabilityMonitor(
            topics.availability, stale_after_s, pause_status.is_requested, clock
        )
        client_id = mqtt.client_id or default_client_id(settings.device_id)
        client = MqttClient(
            broker_from(mqtt),
            client_id,
            clock,
            availability.offline,
            read_broker=partial(broker_from, mqtt),
        )
        queue = EventQueue(clock, client.wake)
        writer = _event_writer(settings, queue, clock)
        resources.callback(writer.close)
        commands = PauseCommands(topics.set_paused, pause, pause_status.is_closed, client.wake)
        self.publisher = MqttPublisher(
            client,
            topics,
            mqtt.rate,
            queue=queue,
            availability=availability,
            clock=clock,
            back_pressure=back_pressure,
            discovery=_discovery(settings, topics, has_temperature=has_temperature),
            commands=commands,
            birth_topic=_birth_topic(settings),
        )
        self.state = StateReporter(
            topics.state,
            self.publisher.publish_retained,
            settings.smoothing.uncertain_below,
            heartbeat_s=min(mqtt.heartbeat, freshness_s(settings)),
            clock=clock,
            is_closed=pause_status.is_closed,
            is_online=availability.is_online,
        )
        live_settings.follow(MqttSettings, self.publisher)
        live_settings.follow(SmoothingSettings, self.state)
        self._health_topic = topics.health
        self.sinks: list[Sink[FrameResult]] = [self.state, self.publisher]
        self.services: list[Service] = [self.publisher, writer, commands, self.state]

    def health_reporter(self, health: HealthProvider) -> HealthReporter:
        """The service that publishes the health message."""
        reporter = HealthReporter(
            health,
            self._health_topic,
            self.publisher.publish_retained,
            self._settings.health,
            freshness_s(self._settings),
        )
        self._live_settings.follow(HealthSettings, reporter)
        return reporter


def _stale_after_s(settings: Settings, back_pressure: BackPressure) -> float:
    stale_after_s = settings.mqtt.stale_after
    if back_pressure == "drop":  # a live source, whose frames may be far apart
        stale_after_s = max(stale_after_s, MAX_MISSED_FRAMES / settings.capture.fps)
    return stale_after_s


def _event_writer(settings: Settings, queue: EventQueue, clock: Clock) -> EventWriter:
    limits = QueueLimits(settings.mqtt.queue_max_events, settings.mqtt.queue_max_age)
    database = settings.state_dir / f"events-{settings.device_id}.sqlite"
    return EventWriter(queue, database, limits, clock)


class _PauseStatus:
    """Whether the camera is to be closed because of a pause, and whether it is."""

    def __init__(self, pause: "Pause", source: "SourceStatus") -> None:
        self._pause = pause
        self._source = source

    def is_requested(self) -> bool:
        return self._pause.paused

    def is_closed(self) -> bool:
        return self._pause.paused and self._source.state is SourceState.PAUSED


def freshness_s(settings: Settings) -> float:
    """Time between messages so that Home Assistant gets three before a value expires."""
    return settings.homeassistant.expire_after / 3 if settings.homeassistant.discovery else math.inf


def _discovery(settings: Settings, topics: Topics, *, has_temperature: bool) -> Message:
    """The device for Home Assistant; without discovery, its removal."""
    section = settings.homeassistant
    if not section.discovery:
        return homeassistant.removal(settings.device_id, section.prefix)
    return homeassistant.discovery(
        topics,
        section,
        configuration_url=preview_url(settings.preview.address),
        support_url=support_url(),
        has_temperature=has_temperature,
    )


def preview_url(address: Address | None) -> str | None:
    """Where other machines find the preview; None if it is not for them."""
    if address is None:
        return None
    host, port = address
    with contextlib.suppress(ValueError):  # a name
        ip = ipaddress.ip_address(host)
        if ip.is_unspecified:
            name = socket.gethostname()
            host = name if "." in name else f"{name}.local"
        elif ip.is_loopback:
            return None
    return None if host == "localhost" else f"http://{authority((host, port))}/"


def support_url() -> str | None:
    """The project's page, as the package's metadata has it; None while it has none."""
    try:
        links = metadata("edge-daemon").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    urls = {label: url for label, _, url in (link.partition(", ") for link in links)}
    url = urls.get("Homepage")
    # Users get no link that is broken because no owner has been filled in yet.
    return None if url is None or OWNER_PLACEHOLDER in url else url


def _birth_topic(settings: Settings) -> str | None:
    """Where Home Assistant publishes that it has started."""
    section = settings.homeassistant
    return f"{section.prefix}/status" if section.discovery else None


def default_client_id(device_id: str) -> str:
    """An MQTT client ID that is stable, and unique to this machine."""
    try:
        machine = MACHINE_ID.read_bytes()
    except OSError:
        machine = b""
    # Hashed, since a machine's ID should not be visible on a network (machine-id(5)).
    suffix = hashlib.sha256(b"edge-daemon" + machine).hexdigest()[:8]
    return f"edge-daemon-{device_id}-{suffix}"
