"""The composition root: the only place that knows every part.

It builds the parts from the settings, joins them, runs them until the source ends or a signal
comes, and says at the end what went through.
"""

import faulthandler
import hashlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import cv2

from edge_daemon.capture import source_from
from edge_daemon.capture.loop import CaptureLoop
from edge_daemon.clock import Clock, SystemClock
from edge_daemon.config import MqttSettings, Settings
from edge_daemon.detection import Detector, create_detector
from edge_daemon.detection.download import YUNET
from edge_daemon.detection.finder import FaceFinder
from edge_daemon.detection.quality import QualityLimits
from edge_daemon.errors import OutputClosed, SettingsError
from edge_daemon.events import EventLimits, EventMaker
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.inference.recognizer import EmotionRecognizer
from edge_daemon.pipeline import Pipeline, Service, Step
from edge_daemon.publishing import homeassistant
from edge_daemon.publishing.jsonl import JsonLines
from edge_daemon.publishing.mqtt import Broker, MqttPublisher
from edge_daemon.publishing.once import publish_once
from edge_daemon.redaction import without_password
from edge_daemon.smoothing import Smoother
from edge_daemon.tracking import Tracker

logger = logging.getLogger(__name__)

MACHINE_ID: Final = Path("/etc/machine-id")


def run(settings: Settings) -> None:
    """Run the pipeline to its end: the source's, or SIGTERM or Ctrl-C.

    Raises:
        EdgeDaemonError: a part cannot be built, or the pipeline failed.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    pipeline = build_pipeline(settings, SystemClock())
    source = without_password(settings.source)
    logger.info("started", extra={"source": source, "sink": settings.sink})
    try:
        with _stopped_by_signals(pipeline):
            pipeline.run()
    except OutputClosed as end:
        logger.info("stopping", extra={"reason": str(end)})
        # What is still buffered has nowhere to go, and must not fail once more at exit.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    finally:
        logger.info("stopped", extra={f"dropped_{k}": n for k, n in pipeline.dropped.items()})


def remove_from_homeassistant(settings: Settings) -> None:
    """Take the device and its entities out of Home Assistant.

    Raises:
        BrokerError: the broker has not acknowledged it.
    """
    removal = homeassistant.removal(settings.device_id, settings.homeassistant.prefix)
    publish_once(_broker(settings.mqtt), removal)


def build_pipeline(settings: Settings, clock: Clock) -> Pipeline:
    """All parts, as the settings want them, joined and not yet started."""
    cv2.setNumThreads(settings.inference.threads)
    ensemble = EmotionEnsemble.load(settings.inference.bundle, settings.inference.threads)
    detector = _detector(settings)
    finder = FaceFinder(detector, settings.detection.max_side, _limits(settings))
    tracker = Tracker(settings.tracking.memory, detector.start_score)
    capture = _capture(settings, clock)
    publish, services = _publisher(settings, live=capture.live, clock=clock)
    return Pipeline(
        capture,
        [
            ("detection", [finder, tracker]),
            ("inference", [EmotionRecognizer(ensemble), _smoother(settings), _events(settings)]),
            ("publishing", [publish]),
        ],
        services,
        read_timeout=settings.capture.read_timeout,
        unhurried=frozenset({"publishing"}),
        clock=clock,
    )


def _capture(settings: Settings, clock: Clock) -> CaptureLoop:
    wanted = settings.capture
    source = source_from(
        settings.source,
        (wanted.width, wanted.height),
        wanted.fps,
        settings.detection.max_side,
    )
    return CaptureLoop(source, clock, wanted.fps)


def _detector(settings: Settings) -> Detector:
    wanted = settings.detection
    fetched = settings.state_dir / YUNET.file
    return create_detector(
        wanted.detector, wanted.model, fetched, wanted.min_score, wanted.min_size
    )


def _limits(settings: Settings) -> QualityLimits:
    return QualityLimits(**settings.quality.model_dump())


def _smoother(settings: Settings) -> Smoother:
    return Smoother(**settings.smoothing.model_dump())


def _events(settings: Settings) -> EventMaker:
    return EventMaker(EventLimits(**settings.events.model_dump()))


def _publisher(settings: Settings, *, live: bool, clock: Clock) -> tuple[Step, list[Service]]:
    if settings.sink == "jsonl":
        return JsonLines(sys.stdout.buffer, clock), []
    publisher = MqttPublisher(
        _broker(settings.mqtt),
        f"{settings.mqtt.base_topic}/{settings.device_id}",
        client_id(settings.device_id),
        settings.mqtt.rate,
        patient=not live,
        clock=clock,
    )
    return publisher, [publisher]


def _broker(settings: MqttSettings) -> Broker:
    return Broker(
        settings.host,
        settings.port,
        settings.username,
        _password(settings.password_file),
        settings.keepalive,
    )


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"mqtt.password_file: {file}: cannot be read: {error}") from error


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
