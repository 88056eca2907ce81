"""The composition root: builds all parts from the settings, joins them, and runs them."""

import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import cv2

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon._lib.logging import set_level
from edge_daemon._lib.terminal import discard_output, in_terminal
from edge_daemon._lib.text import authority, without_password
from edge_daemon.capture import Source, pause_from_settings, source_from_settings
from edge_daemon.capture.loop import CaptureLoop
from edge_daemon.capture.status import Pause, SourceStatus
from edge_daemon.capture.wrappers import Looped
from edge_daemon.config.loading import LiveSettings
from edge_daemon.config.settings import (
    CAMERA_SHARES,
    EventSettings,
    QualitySettings,
    Settings,
    SheddingSettings,
    SmoothingSettings,
    TrackingSettings,
    ZoneSettings,
)
from edge_daemon.detection import detector_from_settings
from edge_daemon.detection.base import Detector
from edge_daemon.detection.step import FaceFinder, Zones
from edge_daemon.errors import BrokerError, MetricsError, OutputClosed, PreviewError
from edge_daemon.inference.bundle import Bundle
from edge_daemon.inference.ensemble import EmotionEnsemble
from edge_daemon.inference.step import EmotionRecognizer, PriorCorrection, Smoother, TimeBudget
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.load_shedding import DegradationLevel, LoadShedder
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.monitoring.systemd import notifier_from
from edge_daemon.output import open_outputs
from edge_daemon.output.base import OutputOptions
from edge_daemon.output.progress import run_progress
from edge_daemon.pipeline import (
    DEFAULT_TIMEOUT_S,
    Chain,
    Pipeline,
    Service,
    Sink,
    Stage,
    StageObserver,
    Watcher,
    compose,
    fan_out,
)
from edge_daemon.publishing import JsonLines, MqttPublishing
from edge_daemon.publishing.broker import PORTS
from edge_daemon.records import FrameResult, TrackedFaces
from edge_daemon.tracking.events import EventMaker
from edge_daemon.tracking.tracker import MAX_PREDICTION_S, FaceFollower, Tracker

if TYPE_CHECKING:
    from edge_daemon.preview.server import PreviewServer

logger = logging.getLogger(__name__)

BROKER_TIMEOUT_S: Final = 3.0

MAX_FAILURES: Final = 10
"""Consecutive frames on which the stages that run third-party code fail, until the end."""


class LogLevel:
    """The log level, which follows the settings."""

    def apply(self, settings: Settings) -> None:
        set_level(settings.log_level)


def run(settings: Settings, reload: Callable[[], Settings], outputs: OutputOptions) -> None:
    """Run the pipeline until the source ends, or SIGTERM or Ctrl-C arrives.

    Args:
        settings: the settings to start with.
        reload: reads them again, at SIGHUP.
        outputs: the files to write.

    Raises:
        EdgeDaemonError: a part cannot be built, or the pipeline failed.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    source = source_from_settings(settings)
    _require_broker(settings, source)
    live_settings = LiveSettings(settings)
    live_settings.follow(Settings, LogLevel())
    with ExitStack() as resources:
        clock = SystemClock()
        sinks: list[Sink[FrameResult]] = [
            *open_outputs(outputs, source, settings, resources),
            *run_progress(source, settings, resources, clock),
        ]
        pipeline = build_pipeline(
            settings, clock, resources, live_settings=live_settings, source=source, sinks=sinks
        )
        _run(pipeline, settings, partial(live_settings.reload, reload))


def _require_broker(settings: Settings, source: Source) -> None:
    """Refuse to process a file without a broker that the user may not know of.

    Results of a file wait for the broker. Without any setting of it, that would be for ever.

    Raises:
        BrokerError: MQTT is only the default, and nothing listens at the default address.
    """
    is_default = settings.sink == "mqtt" and not settings.mqtt.model_fields_set
    if not is_default or settings.capture.loop or source.is_live:
        return
    address = (settings.mqtt.host, PORTS[settings.mqtt.transport, settings.mqtt.tls])
    try:
        socket.create_connection(address, BROKER_TIMEOUT_S).close()
    except OSError as error:
        raise BrokerError(
            f"mqtt.host: no broker (got the default {authority(address)}: {error.strerror}); "
            "use --sink jsonl to print the results, or --set mqtt.host=NAME for a broker"
        ) from error


def _run(pipeline: Pipeline, settings: Settings, reload: Callable[[], None]) -> None:
    source = without_password(settings.source)
    logger.info("started", extra={"source": source, "sink": settings.sink})
    try:
        with _handle_signals(pipeline, reload):
            pipeline.run()
    except OutputClosed as end:
        logger.info("stopping", extra={"reason": str(end)})
        discard_output()
    finally:
        logger.info("stopped", extra={f"dropped_{k}": n for k, n in pipeline.dropped.items()})


def build_pipeline(
    settings: Settings,
    clock: Clock,
    resources: ExitStack,
    *,
    live_settings: LiveSettings | None = None,
    source: Source | None = None,
    detector: Detector | None = None,
    sinks: Sequence[Sink[FrameResult]] = (),
    observers: Sequence[StageObserver] = (),
) -> Pipeline:
    """Build all parts from the settings and join them, without starting them.

    Args:
        settings: what to build.
        clock: the clock to use.
        resources: receives what must be closed once all threads have ended.
        live_settings: receives the parts that follow changes of the settings.
        source: the source to read; None: the one in the settings.
        detector: the face detector; None: the one in the settings.
        sinks: receive each result after all other sinks.
        observers: receive the duration of each frame in each stage.

    Raises:
        EdgeDaemonError: a part cannot be built.
    """
    live_settings = live_settings or LiveSettings(settings)
    cv2.setNumThreads(settings.inference.threads)
    ensemble = EmotionEnsemble.load(settings.inference.bundle, settings.inference.threads)
    source = source or source_from_settings(settings)
    pause = pause_from_settings(settings, is_live=source.is_live)
    prior = _prior(settings, ensemble.bundle, source)
    is_camera = source.is_live
    source = _looped_if_set(settings, source, clock)
    capture = _capture(settings, source, pause, clock, live_settings)
    detector = detector or detector_from_settings(settings)
    follower = _follower(settings, detector, live_settings, is_live=source.is_live)
    budget = _budget(settings, source, ensemble, clock, live_settings)
    recognizer = EmotionRecognizer(ensemble, budget, prior)
    timings = StageTimings(clock)
    mqtt = _mqtt(
        settings,
        pause,
        capture.status,
        clock,
        resources=resources,
        live_settings=live_settings,
        is_live=source.is_live,
    )
    health = _health(settings, ensemble.bundle, capture.status, timings, mqtt=mqtt, clock=clock)
    shedder = _shedder(
        settings, source, follower, budget, health=health, clock=clock, live_settings=live_settings
    )
    publishing, services = _publishing(
        settings, mqtt, health, clock=clock, live_settings=live_settings
    )
    preview = _preview(settings, health, pause, clock, resources=resources, is_camera=is_camera)
    for server in preview:
        live_settings.follow(ZoneSettings, server)
        services += server.services
    publishing_stage = _publishing_stage(
        _event_maker(settings, live_settings),
        [health, *preview, *publishing, *sinks],
        mqtt,
        _publishing_timeout_s(settings, source),
    )
    return Pipeline(
        capture,
        Chain.of(Stage("detection", follower, max_failures=MAX_FAILURES))
        .then(_inference_stage(recognizer, _smoother(settings, live_settings)))
        .then(publishing_stage),
        [*services, *_metrics(settings, health, resources)],
        [health, *preview, shedder, *_notifiers(health, clock)],
        read_timeout_s=settings.capture.read_timeout,
        observers=[timings.record, *observers],
        clock=clock,
    )


def _looped_if_set(settings: Settings, source: Source, clock: Clock) -> Source:
    """The source; a file that repeats plays in real time from here on, like a camera."""
    return Looped(source, clock) if settings.capture.loop and not source.is_live else source


def _health(
    settings: Settings,
    bundle: Bundle,
    status: SourceStatus,
    timings: StageTimings,
    *,
    mqtt: MqttPublishing | None,
    clock: Clock,
) -> Health:
    return Health(
        clock,
        bundle,
        status,
        timings,
        None if mqtt is None else mqtt.publisher,
        detection_interval=settings.detection.interval,
    )


def _inference_stage(
    recognizer: EmotionRecognizer, smoother: Smoother
) -> Stage[TrackedFaces, FrameResult]:
    return Stage("inference", compose(recognizer, smoother), max_failures=MAX_FAILURES)


def _publishing_stage(
    events: EventMaker,
    sinks: Sequence[Sink[FrameResult]],
    mqtt: MqttPublishing | None,
    timeout_s: float | None,
) -> Stage[FrameResult, None]:
    """The last stage, which makes the events, since frames can be dropped before it."""
    to_sinks = fan_out(sinks)

    def finish() -> None:
        if (last := events.finish()) is not None:
            to_sinks(last)
        if mqtt is not None:
            mqtt.state.finish()

    return Stage("publishing", compose(events, to_sinks), timeout_s, finish=finish)


def _prior(settings: Settings, bundle: Bundle, source: Source) -> PriorCorrection | None:
    """The correction for the place that the faces come from; none by default for images."""
    expected = settings.inference.prior_shares
    if expected is None:
        if settings.inference.prior == "none" or source.kind.has_stills:
            return None
        expected = dict(CAMERA_SHARES)
    return PriorCorrection(expected, bundle.ensemble.shares)


def _publishing_timeout_s(settings: Settings, source: Source) -> float | None:
    """None where publishing blocks: a file's results on the broker, lines on their reader."""
    return DEFAULT_TIMEOUT_S if source.is_live and settings.sink != "jsonl" else None


def _capture(
    settings: Settings, source: Source, pause: Pause, clock: Clock, live_settings: LiveSettings
) -> CaptureLoop:
    capture = CaptureLoop(source, clock, settings.capture.fps, pause, settings.tracking.max_age)
    live_settings.follow(TrackingSettings, capture)
    return capture


def _follower(
    settings: Settings, detector: Detector, live_settings: LiveSettings, *, is_live: bool
) -> FaceFollower:
    zones = Zones(settings.zones)
    finder = FaceFinder(detector, settings.detection.max_side, settings.quality, zones)
    frame_interval_s = 1 / settings.capture.fps if is_live else 0.0
    tracker = Tracker(settings.tracking, detector.start_score, frame_interval_s)
    live_settings.follow(ZoneSettings, zones)
    live_settings.follow(QualitySettings, finder)
    live_settings.follow(TrackingSettings, tracker)
    return FaceFollower(finder, tracker, settings.detection.interval, MAX_PREDICTION_S)


def _smoother(settings: Settings, live_settings: LiveSettings) -> Smoother:
    smoother = Smoother(settings.smoothing)
    live_settings.follow(SmoothingSettings, smoother)
    return smoother


def _event_maker(settings: Settings, live_settings: LiveSettings) -> EventMaker:
    maker = EventMaker(settings.events)
    live_settings.follow(EventSettings, maker)
    return maker


def _budget(
    settings: Settings,
    source: Source,
    ensemble: EmotionEnsemble,
    clock: Clock,
    live_settings: LiveSettings,
) -> TimeBudget | None:
    """The time budget of the models; None for files, whose frames all get the full ensemble."""
    if not _sheds(settings, source):
        return None
    mmac = [member.mmac for member in ensemble.bundle.members]
    budget = TimeBudget(mmac, settings.shedding, 1 / settings.capture.fps, clock)
    live_settings.follow(SheddingSettings, budget)
    return budget


def _shedder(
    settings: Settings,
    source: Source,
    follower: FaceFollower,
    budget: TimeBudget | None,
    *,
    health: Health,
    clock: Clock,
    live_settings: LiveSettings,
) -> LoadShedder:
    def apply(level: DegradationLevel, full: DegradationLevel) -> None:
        if budget is not None:
            budget.set_max_members(level.members)
        follower.set_interval(level.detection_interval)
        health.set_level(level, full)

    shedder = LoadShedder(
        settings, health.members_total, apply, Hardware(), clock, enabled=_sheds(settings, source)
    )
    live_settings.follow(Settings, shedder)
    return shedder


def _sheds(settings: Settings, source: Source) -> bool:
    return source.is_live and settings.shedding.enabled


def _mqtt(
    settings: Settings,
    pause: Pause,
    status: SourceStatus,
    clock: Clock,
    *,
    resources: ExitStack,
    live_settings: LiveSettings,
    is_live: bool,
) -> MqttPublishing | None:
    if settings.sink != "mqtt":
        return None
    return MqttPublishing(
        settings,
        pause,
        status,
        clock,
        resources=resources,
        live_settings=live_settings,
        back_pressure="drop" if is_live else "block",
        has_temperature=Hardware().cpu_temperature() is not None,
    )


def _publishing(
    settings: Settings,
    mqtt: MqttPublishing | None,
    health: Health,
    *,
    clock: Clock,
    live_settings: LiveSettings,
) -> tuple[list[Sink[FrameResult]], list[Service]]:
    if mqtt is None:
        return ([JsonLines(sys.stdout.buffer, clock)] if settings.sink == "jsonl" else []), []
    return mqtt.sinks, [*mqtt.services, mqtt.health_reporter(health, settings, live_settings)]


def _notifiers(health: Health, clock: Clock) -> list[Watcher]:
    notifier = notifier_from(os.environ, health.source, health.summary, clock)
    return [] if notifier is None else [notifier]


def _metrics(settings: Settings, health: Health, resources: ExitStack) -> list[Service]:
    address = settings.metrics.address
    if address is None:
        return []
    with _requiring_extra("metrics", MetricsError):
        from edge_daemon._lib.http_server import listen
        from edge_daemon.monitoring.prometheus import MetricsServer
    listener = resources.enter_context(listen(address, "metrics.listen", MetricsError))
    include_emotions = settings.metrics.include_emotions
    return [MetricsServer(health, listener, include_emotions=include_emotions)]


def _preview(
    settings: Settings,
    health: Health,
    pause: Pause,
    clock: Clock,
    *,
    resources: ExitStack,
    is_camera: bool,
) -> "list[PreviewServer]":
    """One preview server, or none."""
    address = settings.preview.address
    if address is None:
        return []
    with _requiring_extra("preview", PreviewError):
        from edge_daemon._lib.http_server import listen
        from edge_daemon.preview.server import PreviewServer
    listener = resources.enter_context(listen(address, "preview.listen", PreviewError))
    return [
        PreviewServer(
            settings,
            listener,
            is_camera=is_camera,
            health=health,
            pause=pause,
            clock=clock,
            announce=_announce_preview,
        )
    ]


@contextmanager
def _requiring_extra(name: str, error_type: type[MetricsError | PreviewError]) -> Iterator[None]:
    """Import what an optional dependency of the section `name` provides.

    Raises:
        MetricsError, PreviewError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise error_type(f"{name}.listen: {error}; pip install 'edge-daemon[{name}]'") from error


def _announce_preview(url: str) -> None:
    print(f"edge-daemon: preview at {url}", file=sys.stderr, flush=True)


@contextmanager
def _handle_signals(pipeline: Pipeline, reload: Callable[[], None]) -> Iterator[None]:
    interactive = in_terminal()

    def stop(_number: int, _frame: object) -> None:
        pipeline.stop()

    def hang_up(_number: int, _frame: object) -> None:
        """Reload, or stop if this came from a closing terminal."""
        if interactive and not in_terminal():
            pipeline.stop()
        else:
            pipeline.call_soon(reload)

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: hang_up}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)  # deliver pending signals now
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
