"""How the daemon is: figures of all its parts, gathered in one message."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from edge_daemon import __version__
from edge_daemon._lib.clock import Clock
from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import Bundle
from edge_daemon.monitoring.hardware import Board
from edge_daemon.monitoring.load_shedding import Effort
from edge_daemon.monitoring.stage_timings import StageTimings
from edge_daemon.monitoring.throughput import Pace
from edge_daemon.pipeline import Pipeline
from edge_daemon.records import FrameResult, SourceState
from edge_daemon.schema import HealthMessage, SpoolMessage

NO_EVENTS: Final = SpoolMessage(depth=0, oldest_age_s=0.0, dropped=0, durable=True)


@dataclass(frozen=True)
class Delivery:
    """How messages leave the device; as it stands, where no broker takes them."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    """Messages that were never sent, by what dropped them."""
    reconnects: int = 0
    spool: SpoolMessage = NO_EVENTS


class Health:
    """The step that notes each result on its way to the sinks, and the figures of that and more.

    Args:
        clock: where the time is read.
        bundle: the models in use.
        source: how the source is.
        board: what is read of the machine.
        detection_every: frames from one detection to the next, where nothing is shed.
    """

    def __init__(
        self,
        clock: Clock,
        bundle: Bundle,
        source: SourceStatus,
        board: Board | None = None,
        detection_every: int = 1,
    ) -> None:
        self.pace = Pace(clock)
        self.stages = StageTimings(clock)
        self.source = source
        self.delivery: Callable[[], Delivery] = Delivery
        """Tells how messages leave; it may read from the disk."""
        self.connected: Callable[[], bool | None] = lambda: None
        """Tells whether there is a connection to the broker; None where none is wanted."""
        self._clock = clock
        self._started = clock.monotonic()
        self._bundle = bundle
        self._members_active = len(bundle.members)
        self._detection_every = self._usual_detection_every = detection_every
        self._faces = 0
        self._board = board or Board()
        self._pipeline: Pipeline | None = None

    def watch(self, pipeline: Pipeline) -> None:
        """Tell of this pipeline's drops, too."""
        self._pipeline = pipeline

    def adjust(self, effort: Effort) -> None:
        """Tell that so much is done from now on."""
        self._members_active = effort.members
        self._detection_every = effort.detection_every

    def __call__(self, result: FrameResult) -> FrameResult:
        if not result.frame.blank:
            self.pace.note(result)
        self._faces = len(result.faces)
        if scored := [face.members for face in result.faces if face.members]:
            self._members_active = max(scored)
        return result

    def summary(self) -> str:
        """The most important in a few words, for people. May be called often: no disk is read."""
        words = f"source {self.source.state}"
        if self.source.state is SourceState.RUNNING:
            words += f", {self.pace.figures().fps_out:.0f} fps, faces in sight: {self._faces}"
        if self._members_active < len(self._bundle.members):
            words += f", models: {self._members_active} of {len(self._bundle.members)}"
        if self._detection_every > self._usual_detection_every:
            words += f", detection in 1 of {self._detection_every} frames"
        return f"{words}, broker away" if self.connected() is False else words

    def message(self) -> HealthMessage:
        """Everything as it is now. May be called from any thread."""
        pace, delivery = self.pace.figures(), self.delivery()
        temperature = self._board.cpu_temperature()
        return HealthMessage(
            time=self._clock.now(),
            uptime_s=round(self._clock.monotonic() - self._started, 1),
            version=__version__,
            bundle_id=self._bundle.bundle_id,
            source=self.source.state,
            fps_in=round(pace.fps_in, 2),
            fps_out=round(pace.fps_out, 2),
            dropped={**(self._pipeline.dropped if self._pipeline else {}), **delivery.dropped},
            latency_ms=pace.latency,
            cpu_temperature_c=None if temperature is None else round(temperature, 1),
            throttled=self._board.throttled(),
            memory_mb=round(self._board.resident_memory() / 1e6, 1),
            members_active=self._members_active,
            members_total=len(self._bundle.members),
            detection_every=self._detection_every,
            spool=delivery.spool,
            reconnects=delivery.reconnects,
        )
