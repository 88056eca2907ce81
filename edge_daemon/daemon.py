"""The composition root: builds all parts from the settings, joins them, and runs them."""

import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import cv2

from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon._lib.logging import set_log_level
from edge_daemon._lib.terminal import discard_output, in_terminal
from edge_daemon._lib.text import authority, without_password
from edge_daemon.capture import Source, SourceKind, pause_from_settings, source_from_settings
from edge_daemon.capture.loop import CaptureLoop
from edge_daemon.capture.status import Pause, SourceStatus
from edge_daemon.capture.wrappers import Playback
from edge_daemon.config.loading import LiveSettings
from edge_daemon.config.settings import (
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
from edge_daemon.inference.step import (
    EmotionRecognizer,
    Smoother,
    TimeBudget,
    prior_correction,
)
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.load_shedding import DegradationLevel, LoadShedder
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.monitoring.systemd import notifier_from
from edge_daemon.output import OutputOptions, open_outputs
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
from edge_daemon.records import FrameResult
from edge_daemon.tracking.events import EventMaker
from edge_daemon.tracking.tracker import FaceFollower, Tracker

if TYPE_CHECKING:
    from edge_daemon.preview.server import PreviewServer

logger = logging.getLogger(__name__)

BROKER_TIMEOUT_S: Final = 3.0

MAX_FAILURES: Final = 10
"""Consecutive frames on which the stages that run third-party code fail, until the end."""


class LogLevel:
    """The log level, which follows the settings."""

    def apply(self, settings: Settings) -> None:
        set_log_level(settings.log_level)


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
    cv2.setNumThreads(settings.inference.threads)
    ensemble = EmotionEnsemble.load(settings.inference.bundle, settings.inference.threads)
    source = source or source_from_settings(settings)
    if settings.capture.loop and not source.is_live:
        source = Playback(source, clock)
    pause = pause_from_settings(settings, source.kind)
    build = _Builder(settings, live_settings or LiveSettings(settings), source, clock, resources)

    capture = build.capture(pause)
    follower = build.follower(detector or detector_from_settings(settings))
    budget = build.time_budget(ensemble.bundle)
    prior = prior_correction(settings.inference, ensemble, is_still=source.kind.has_stills)
    recognizer = EmotionRecognizer(ensemble, budget, prior)
    mqtt = build.mqtt(pause, capture.status)
    timings = StageTimings(clock)
    health = build.health(ensemble.bundle, capture.status, timings, mqtt)
    shedder = build.shedder(follower, budget, health)
    preview = build.preview(health, pause)

    detection = Stage("detection", follower, max_failures=MAX_FAILURES)
    inference = Stage("inference", compose(recognizer, build.smoother()), max_failures=MAX_FAILURES)
    publishing = build.publishing_stage([health, *preview, *build.sinks(mqtt), *sinks], mqtt)
    return Pipeline(
        capture,
        Chain.of(detection).then(inference).then(publishing),
        build.services(mqtt, preview, health),
        [health, *preview, shedder, *build.notifiers(health)],
        read_timeout_s=settings.capture.read_timeout,
        observers=[timings.record, *observers],
        clock=clock,
    )


@dataclass(frozen=True)
class _Builder:
    """Builds the parts of one pipeline, and has them follow the settings."""

    settings: Settings
    live_settings: LiveSettings
    source: Source
    clock: Clock
    resources: ExitStack

    @property
    def sheds_load(self) -> bool:
        return self.source.is_live and self.settings.shedding.enabled

    def capture(self, pause: Pause) -> CaptureLoop:
        settings = self.settings
        capture = CaptureLoop(
            self.source, self.clock, settings.capture.fps, pause, settings.tracking.max_age
        )
        self.live_settings.follow(TrackingSettings, capture)
        return capture

    def follower(self, detector: Detector) -> FaceFollower:
        settings = self.settings
        zones = Zones(settings.zones)
        finder = FaceFinder(detector, settings.detection.max_side, settings.quality, zones)
        frame_interval_s = 1 / settings.capture.fps if self.source.is_live else 0.0
        tracker = Tracker(settings.tracking, detector.start_score, frame_interval_s)
        self.live_settings.follow(ZoneSettings, zones)
        self.live_settings.follow(QualitySettings, finder)
        self.live_settings.follow(TrackingSettings, tracker)
        return FaceFollower(finder, tracker, settings.detection.interval)

    def time_budget(self, bundle: Bundle) -> TimeBudget | None:
        """The time budget of the models; None where every frame gets the full ensemble."""
        if not self.sheds_load:
            return None
        mmac = [member.mmac for member in bundle.members]
        frame_interval_s = 1 / self.settings.capture.fps
        budget = TimeBudget(mmac, self.settings.shedding, frame_interval_s, self.clock)
        self.live_settings.follow(SheddingSettings, budget)
        return budget

    def smoother(self) -> Smoother:
        smoother = Smoother(self.settings.smoothing)
        self.live_settings.follow(SmoothingSettings, smoother)
        return smoother

    def mqtt(self, pause: Pause, status: SourceStatus) -> MqttPublishing | None:
        if self.settings.sink != "mqtt":
            return None
        return MqttPublishing(
            self.settings,
            pause,
            status,
            self.clock,
            resources=self.resources,
            live_settings=self.live_settings,
            back_pressure="drop" if self.source.is_live else "block",
            has_temperature=Hardware().cpu_temperature() is not None,
        )

    def health(
        self,
        bundle: Bundle,
        status: SourceStatus,
        timings: StageTimings,
        mqtt: MqttPublishing | None,
    ) -> Health:
        return Health(
            self.clock,
            bundle,
            status,
            timings,
            None if mqtt is None else mqtt.publisher,
            detection_interval=self.settings.detection.interval,
        )

    def shedder(
        self, follower: FaceFollower, budget: TimeBudget | None, health: Health
    ) -> LoadShedder:
        def use_level(level: DegradationLevel, full: DegradationLevel) -> None:
            if budget is not None:
                budget.set_max_members(level.members)
            follower.set_interval(level.detection_interval)
            health.set_level(level, full)

        shedder = LoadShedder(
            self.settings,
            health.members_total,
            use_level,
            Hardware(),
            self.clock,
            enabled=self.sheds_load,
        )
        self.live_settings.follow(Settings, shedder)
        return shedder

    def preview(self, health: Health, pause: Pause) -> "list[PreviewServer]":
        """One preview server, or none."""
        address = self.settings.preview.address
        if address is None:
            return []
        with _requiring_extra("preview", PreviewError):
            from edge_daemon._lib.http_server import listen
            from edge_daemon.preview.server import PreviewServer
        server = PreviewServer(
            self.settings,
            self.resources.enter_context(listen(address, "preview.listen", PreviewError)),
            is_camera=self.source.kind is SourceKind.CAMERA,
            health=health,
            pause=pause,
            clock=self.clock,
            announce=_announce_preview,
        )
        self.live_settings.follow(ZoneSettings, server)
        return [server]

    def metrics(self, health: Health) -> list[Service]:
        """One server of metrics, or none."""
        address = self.settings.metrics.address
        if address is None:
            return []
        with _requiring_extra("metrics", MetricsError):
            from edge_daemon._lib.http_server import listen
            from edge_daemon.monitoring.prometheus import MetricsServer
        listener = self.resources.enter_context(listen(address, "metrics.listen", MetricsError))
        include_emotions = self.settings.metrics.include_emotions
        return [MetricsServer(health, listener, include_emotions=include_emotions)]

    def sinks(self, mqtt: MqttPublishing | None) -> list[Sink[FrameResult]]:
        if mqtt is not None:
            return mqtt.sinks
        return [JsonLines(sys.stdout.buffer, self.clock)] if self.settings.sink == "jsonl" else []

    def services(
        self, mqtt: MqttPublishing | None, preview: "list[PreviewServer]", health: Health
    ) -> list[Service]:
        publishing = [] if mqtt is None else [*mqtt.services, mqtt.health_reporter(health)]
        previewing = [service for server in preview for service in server.services]
        return [*publishing, *previewing, *self.metrics(health)]

    def publishing_stage(
        self, sinks: Sequence[Sink[FrameResult]], mqtt: MqttPublishing | None
    ) -> Stage[FrameResult, None]:
        """The last stage, which makes the events, since frames can be dropped before it."""
        events = EventMaker(self.settings.events)
        self.live_settings.follow(EventSettings, events)
        to_sinks = fan_out(sinks)
        # A file's results wait for the broker, and lines wait for their reader.
        is_unlimited = not self.source.is_live or self.settings.sink == "jsonl"

        def finish() -> None:
            if (last := events.finish()) is not None:
                to_sinks(last)
            if mqtt is not None:
                mqtt.state.finish()

        timeout_s = None if is_unlimited else DEFAULT_TIMEOUT_S
        return Stage("publishing", compose(events, to_sinks), timeout_s, finish=finish)

    def notifiers(self, health: Health) -> list[Watcher]:
        """One notifier of systemd, or none."""
        notifier = notifier_from(os.environ, health.source, health.summary, self.clock)
        return [] if notifier is None else [notifier]


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
