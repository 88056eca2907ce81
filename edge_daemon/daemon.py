"""The composition root: the only place that knows every part.

It builds the parts from the settings, joins them, runs them until the source ends or a signal
comes, and says at the end what went through.
"""

import faulthandler
import hashlib
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from wsgiref.types import WSGIApplication

import cv2

from edge_daemon import __version__
from edge_daemon.capture import Source, source_from
from edge_daemon.capture.loop import CaptureLoop
from edge_daemon.capture.pause import Pause
from edge_daemon.clock import Clock, SystemClock
from edge_daemon.config import HomeAssistantSettings, Settings
from edge_daemon.detection import Detector, create_detector
from edge_daemon.detection.download import YUNET
from edge_daemon.detection.finder import FaceFinder
from edge_daemon.detection.quality import QualityLimits
from edge_daemon.errors import MetricsError, OutputClosed
from edge_daemon.events import EventLimits, EventMaker
from edge_daemon.host.health import Delivery, Health
from edge_daemon.host.metrics_server import MetricsServer
from edge_daemon.host.reporter import HealthReporter
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.inference.recognizer import EmotionRecognizer
from edge_daemon.pipeline import Pipeline, Service, Step
from edge_daemon.publishing import homeassistant
from edge_daemon.publishing.broker import broker_from
from edge_daemon.publishing.commands import switch
from edge_daemon.publishing.jsonl import JsonLines, discard
from edge_daemon.publishing.outbox import Outbox, OutboxLimits
from edge_daemon.publishing.publisher import MqttPublisher
from edge_daemon.publishing.state import StateKeeper
from edge_daemon.publishing.topics import Message, Topics
from edge_daemon.redaction import without_password
from edge_daemon.smoothing import Smoother
from edge_daemon.tracking import Tracker

logger = logging.getLogger(__name__)

PAUSE_FILE: Final = "paused"

MACHINE_ID: Final = Path("/etc/machine-id")


def run(settings: Settings) -> None:
    """Run the pipeline to its end: the source's, or SIGTERM or Ctrl-C.

    Raises:
        EdgeDaemonError: a part cannot be built, or the pipeline failed.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    with ExitStack() as resources:
        _run(build_pipeline(settings, SystemClock(), resources), settings)


def _run(pipeline: Pipeline, settings: Settings) -> None:
    source = without_password(settings.source)
    logger.info("started", extra={"source": source, "sink": settings.sink})
    try:
        with _stopped_by_signals(pipeline):
            pipeline.run()
    except OutputClosed as end:
        logger.info("stopping", extra={"reason": str(end)})
        discard(sys.stdout.buffer)
    finally:
        logger.info("stopped", extra={f"dropped_{k}": n for k, n in pipeline.dropped.items()})


def build_pipeline(settings: Settings, clock: Clock, resources: ExitStack) -> Pipeline:
    """All parts, as the settings want them, joined and not yet started.

    What must be closed once all threads have ended goes into `resources`.
    """
    cv2.setNumThreads(settings.inference.threads)
    ensemble = EmotionEnsemble.load(settings.inference.bundle, settings.inference.threads)
    detector = _detector(settings)
    finder = FaceFinder(detector, settings.detection.max_side, _limits(settings))
    tracker = Tracker(settings.tracking.memory, detector.start_score)
    source = _source(settings)
    pause = _pause(settings, live=source.live)
    capture = CaptureLoop(source, clock, settings.capture.fps, pause, settings.tracking.memory)
    health = Health(clock, ensemble.bundle, capture.status)
    publishing, services = _publishing(settings, health, pause, clock, resources, live=source.live)
    pipeline = Pipeline(
        capture,
        [
            ("detection", [finder, tracker]),
            ("inference", [EmotionRecognizer(ensemble), _smoother(settings)]),
            # Events are made where nothing can overtake them any more.
            ("publishing", [_events(settings), health, *publishing]),
        ],
        [*services, *_metrics(settings, health, clock)],
        read_timeout=settings.capture.read_timeout,
        unhurried=frozenset({"publishing"}),
        clock=clock,
    )
    health.watch(pipeline)
    return pipeline


def _source(settings: Settings) -> Source:
    wanted = settings.capture
    return source_from(
        settings.source,
        (wanted.width, wanted.height),
        wanted.fps,
        settings.detection.max_side,
    )


def _pause(settings: Settings, *, live: bool) -> Pause:
    """The privacy switch; it is remembered for cameras, as a file has no privacy to keep."""
    return Pause(settings.state_dir / PAUSE_FILE if live else None)


def _detector(settings: Settings) -> Detector:
    wanted = settings.detection
    fetched = settings.state_dir / YUNET.file
    return create_detector(
        wanted.detector,
        wanted.model,
        fetched,
        wanted.min_score,
        wanted.min_size,
        threads=settings.inference.threads,
    )


def _limits(settings: Settings) -> QualityLimits:
    return QualityLimits(**settings.quality.model_dump())


def _smoother(settings: Settings) -> Smoother:
    return Smoother(**settings.smoothing.model_dump())


def _events(settings: Settings) -> EventMaker:
    return EventMaker(EventLimits(**settings.events.model_dump()))


def _publishing(
    settings: Settings,
    health: Health,
    pause: Pause,
    clock: Clock,
    resources: ExitStack,
    *,
    live: bool,
) -> tuple[list[Step], list[Service]]:
    if settings.sink == "jsonl":
        return [JsonLines(sys.stdout.buffer, clock)], []
    wanted = settings.mqtt
    # Seconds: Home Assistant must hear thrice before it takes a value for outdated.
    freshness = settings.homeassistant.expire_after / 3
    topics = Topics(wanted.base_topic, settings.device_id)
    outbox = _outbox(settings, clock, resources)
    publisher = MqttPublisher(
        broker_from(wanted),
        client_id(settings.device_id),
        topics,
        wanted.rate,
        outbox=outbox,
        patient=not live,
        clock=clock,
        stale_after=wanted.stale_after,
        paused=lambda: pause.paused,
        discovery=lambda: (_described(settings, topics),),
        commands={topics.set_paused: switch("paused", pause.set)},
        birth_topic=_birth_topic(settings.homeassistant),
    )
    state = StateKeeper(
        topics.state,
        publisher.keep,
        settings.smoothing.uncertain_below,
        heartbeat=min(wanted.heartbeat, freshness),
        clock=clock,
        paused=lambda: pause.paused,
    )
    pause.changed.append(state.refresh)
    health.delivery = lambda: Delivery(
        {"mqtt": publisher.dropped}, publisher.reconnects, outbox.figures()
    )
    interval = min(settings.health.interval, freshness)
    reporter = HealthReporter(health, topics.health, publisher.keep, interval)
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


def _metrics(settings: Settings, health: Health, clock: Clock) -> list[Service]:
    address = settings.metrics.address
    return [] if address is None else [MetricsServer(_metrics_app(health), address, clock)]


def _metrics_app(health: Health) -> WSGIApplication:
    try:
        from edge_daemon.host.metrics import metrics_app
    except ImportError as error:
        raise MetricsError(
            f"metrics.listen: {error}; pip install 'edge-daemon[metrics]'"
        ) from error
    return metrics_app(health)


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


@contextmanager
def _stopped_by_signals(pipeline: Pipeline) -> Iterator[None]:
    def stop(_number: int, _frame: object) -> None:
        pipeline.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
