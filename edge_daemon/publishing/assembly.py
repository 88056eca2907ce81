"""Joins the parts that publish over MQTT."""

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from edge_daemon import __version__
from edge_daemon._lib.clock import Clock
from edge_daemon.capture.pause import Pause
from edge_daemon.config.reload import LiveSettings
from edge_daemon.config.settings import (
    HealthSettings,
    HomeAssistantSettings,
    MqttSettings,
    Settings,
    SmoothingSettings,
)
from edge_daemon.monitoring.health import Health
from edge_daemon.pipeline import Service, Sink
from edge_daemon.publishing import homeassistant
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.commands import switch
from edge_daemon.publishing.event_queue import Outbox, OutboxLimits
from edge_daemon.publishing.health_reporter import HealthReporter
from edge_daemon.publishing.publisher import MqttPublisher
from edge_daemon.publishing.state import StateKeeper
from edge_daemon.publishing.topics import Message, Topics
from edge_daemon.records import FrameResult

MACHINE_ID: Final = Path("/etc/machine-id")


def mqtt_publisher(
    settings: Settings,
    pause: Pause,
    clock: Clock,
    *,
    resources: ExitStack,
    live: LiveSettings,
    patient: bool,
) -> MqttPublisher:
    """The publisher and its event queue.

    Args:
        settings: initial settings.
        pause: the privacy switch, which subscribers may set.
        clock: where the time is read.
        resources: takes what must be closed in the end.
        live: is told which parts follow which settings.
        patient: whether results wait for the broker, as a file's do, or are dropped.

    Raises:
        EdgeDaemonError: the settings of the broker cannot be used.
    """
    wanted = settings.mqtt
    topics = Topics(wanted.base_topic, settings.device_id)
    outbox = _outbox(settings, clock, resources)
    publisher = MqttPublisher(
        broker_from(wanted),
        client_id(settings.device_id),
        topics,
        wanted.rate,
        outbox=outbox,
        patient=patient,
        clock=clock,
        stale_after=wanted.stale_after,
        paused=lambda: pause.paused,
        discovery=lambda: (_described(settings, topics),),
        commands={topics.set_paused: switch("paused", pause.set)},
        birth_topic=_birth_topic(settings.homeassistant),
    )
    live.follow(MqttSettings, publisher)
    return publisher


def mqtt(
    settings: Settings,
    publisher: MqttPublisher,
    health: Health,
    pause: Pause,
    *,
    clock: Clock,
    live: LiveSettings,
) -> tuple[list[Sink[FrameResult]], list[Service]]:
    """The steps that hand results to the publisher, and the services that publish.

    Args:
        settings: initial settings.
        publisher: publishes the messages.
        health: source of the health messages.
        pause: the privacy switch.
        clock: source of the time.
        live: registers which parts follow which settings.
    """
    # Seconds: a value reaches Home Assistant three times before it expires there.
    freshness = settings.homeassistant.expire_after / 3
    topics = Topics(settings.mqtt.base_topic, settings.device_id)
    state = StateKeeper(
        topics.state,
        publisher.keep,
        settings.smoothing.uncertain_below,
        heartbeat=min(settings.mqtt.heartbeat, freshness),
        clock=clock,
        paused=lambda: pause.paused,
    )
    pause.subscribe(state.refresh)
    reporter = HealthReporter(health, topics.health, publisher.keep, settings.health, freshness)
    live.follow(SmoothingSettings, state)
    live.follow(HealthSettings, reporter)
    return [state, publisher], [publisher, state, reporter]


def _described(settings: Settings, topics: Topics) -> Message:
    """The device for Home Assistant, or, where it is not wanted there, its removal."""
    wanted = settings.homeassistant
    if not wanted.discovery:
        return homeassistant.removal(settings.device_id, wanted.prefix)
    return homeassistant.discovery(
        settings.device_id,
        topics,
        wanted.prefix,
        wanted.expire_after,
        __version__,
        name=wanted.name,
    )


def _birth_topic(settings: HomeAssistantSettings) -> str | None:
    """Where Home Assistant tells that it has started."""
    return f"{settings.prefix}/status" if settings.discovery else None


def _outbox(settings: Settings, clock: Clock, resources: ExitStack) -> Outbox:
    limits = OutboxLimits(settings.mqtt.spool_max_events, settings.mqtt.spool_max_age)
    outbox = Outbox(settings.state_dir, settings.device_id, limits, clock)
    resources.callback(outbox.close)
    return outbox


def client_id(device_id: str) -> str:
    """An MQTT client id that stays the same, and that no other machine has."""
    try:
        machine = MACHINE_ID.read_bytes()
    except OSError:
        machine = b""
    # Hashed, since a machine's id should not be shown on a network (machine-id(5)).
    suffix = hashlib.sha256(b"edge-daemon" + machine).hexdigest()[:8]
    return f"edge-daemon-{device_id}-{suffix}"
