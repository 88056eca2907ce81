"""Health of the daemon: figures of all its parts, gathered in one message."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, Protocol

from edge_daemon import __version__
from edge_daemon._lib.clock import Clock
from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import Bundle
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.load_shedding import DegradationLevel
from edge_daemon.monitoring.statistics import StageTimings, Throughput
from edge_daemon.pipeline import Pipeline, Watcher
from edge_daemon.records import EventKind, FrameResult, SourceState
from edge_daemon.schema import EventQueueStatus, HealthMessage

NO_QUEUE: Final = EventQueueStatus(depth=0, oldest_age_s=0.0, dropped=0, durable=True)
"""The event queue where no broker is configured."""


class PublisherStatus(Protocol):
    """The MQTT publisher, as far as health reports it. Any thread may read it."""

    @property
    def connected(self) -> bool:
        """Whether the connection to the broker is up."""
        ...

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        ...

    @property
    def dropped(self) -> int:
        """Messages that were never sent."""
        ...

    def queued_events(self) -> EventQueueStatus:
        """State of the event queue; must not wait for the disk."""
        ...


class Health(Watcher):
    """Gathers the daemon's figures.

    As a sink it counts results; as a watcher it reads the pipeline's drop
    counters. All reports may be requested from any thread.

    Args:
        clock: the clock to use.
        bundle: the models.
        source: state of the source.
        timings: durations of the stages.
        publisher: the MQTT publisher; None without a broker.
        hardware: sensors of the machine.
        detection_interval: frames from one detection to the next without load shedding.
    """

    def __init__(
        self,
        clock: Clock,
        bundle: Bundle,
        source: SourceStatus,
        timings: StageTimings,
        publisher: PublisherStatus | None = None,
        *,
        hardware: Hardware | None = None,
        detection_interval: int = 1,
    ) -> None:
        self.throughput = Throughput(clock)
        self.timings = timings
        self.source = source
        self._clock = clock
        self._started = clock.monotonic()
        self._bundle = bundle
        self._publisher = publisher
        self._hardware = hardware or Hardware()
        self._level = self._full_level = DegradationLevel(len(bundle.members), detection_interval)
        self._members_used = len(bundle.members)
        self._dropped_frames: Mapping[str, int] = {}
        self._stuck_services: tuple[str, ...] = ()
        self._faces: Counter[str] = Counter()
        self._faces_total: Counter[str] = Counter()
        self._events_total: Counter[EventKind] = Counter()

    def __call__(self, result: FrameResult) -> None:
        """Count a result."""
        if not result.frame.is_blank:
            self.throughput.record(result)
        faces: Counter[str] = Counter()
        members = 0
        for face in result.faces:
            faces[face.emotion or "none"] += 1
            members = max(members, face.members)
        # Other threads copy these, so they are replaced and never changed.
        self._faces, self._faces_total = faces, self._faces_total + faces
        if result.events:
            events = Counter([event.kind for event in result.events])
            self._events_total = self._events_total + events
        if members:
            self._members_used = members

    def poll(self, pipeline: Pipeline) -> None:
        """Read the pipeline's drop counters, and which services are stuck."""
        self._dropped_frames = pipeline.dropped
        self._stuck_services = pipeline.stuck_services

    @property
    def members_total(self) -> int:
        """Members of the ensemble."""
        return len(self._bundle.members)

    def set_level(self, level: DegradationLevel, full: DegradationLevel) -> None:
        """Report another degradation level from now on, and which level is without shedding."""
        self._level, self._full_level = level, full
        self._members_used = level.members

    @property
    def connected(self) -> bool | None:
        """Whether the connection to the broker is up; None without a broker."""
        return None if self._publisher is None else self._publisher.connected

    @property
    def dropped_frames(self) -> Mapping[str, int]:
        """Frames dropped since the start, by stage."""
        return self._dropped_frames

    @property
    def dropped_messages(self) -> int:
        """MQTT messages that were never sent."""
        return 0 if self._publisher is None else self._publisher.dropped

    @property
    def faces(self) -> Mapping[str, int]:
        """Faces in the newest result by emotion; `none` for those without."""
        return self._faces

    @property
    def faces_total(self) -> Mapping[str, int]:
        """Faces in all results since the start, by emotion."""
        return self._faces_total

    @property
    def events_total(self) -> Mapping[EventKind, int]:
        """Events since the start, by kind."""
        return self._events_total

    def summary(self) -> str:
        """The state in one line, for `systemctl status`. Reads no disk, so it may be frequent."""
        text = f"source {self.source.state}"
        if self.source.state is SourceState.RUNNING:
            text += self._throughput_summary()
        return f"{text}, broker disconnected" if self.connected is False else text

    def _throughput_summary(self) -> str:
        fps = self.throughput.rates().fps_out
        text = f", {fps:.0f} fps, faces in sight: {self._faces.total()}"
        if self._members_used < self.members_total:
            text += f", members: {self._members_used} of {self.members_total}"
        if self._level.detection_interval > self._full_level.detection_interval:
            text += f", detection in 1 of {self._level.detection_interval} frames"
        return text

    def message(self) -> HealthMessage:
        """All figures as they are now."""
        rates = self.throughput.rates()
        temperature = self._hardware.cpu_temperature()
        memory = self._hardware.resident_memory()
        publisher = self._publisher
        dropped_messages = {} if publisher is None else {"mqtt": publisher.dropped}
        return HealthMessage(
            time=self._clock.now(),
            uptime_s=round(self._clock.monotonic() - self._started, 1),
            version=__version__,
            bundle_id=self._bundle.bundle_id,
            source=self.source.state,
            fps_in=round(rates.fps_in, 2),
            fps_out=round(rates.fps_out, 2),
            dropped={**self._dropped_frames, **dropped_messages},
            latency_ms=rates.latency,
            cpu_temperature_c=None if temperature is None else round(temperature, 1),
            throttled=self._hardware.throttled(),
            memory_mb=None if memory is None else round(memory / 1e6, 1),
            members_active=self._members_used,
            members_total=self.members_total,
            detection_interval=self._level.detection_interval,
            stuck_services=self._stuck_services,
            event_queue=NO_QUEUE if publisher is None else publisher.queued_events(),
            reconnects=0 if publisher is None else publisher.reconnects,
        )
