"""What the page is told when it asks: what stays so, and what was seen."""

from dataclasses import dataclass

from edge_daemon import __version__
from edge_daemon._lib.clock import Clock
from edge_daemon.monitoring.health import Health
from edge_daemon.preview.frame_encoder import condition
from edge_daemon.preview.history import Minute
from edge_daemon.preview.messages import LastMinute, Session, seen_frame
from edge_daemon.records import EMOTIONS


@dataclass(frozen=True)
class Facts:
    """Makes the messages of it."""

    device: str
    source: str
    """Its name, as it may be shown."""
    camera: bool
    """Whether it is one, and no file."""
    health: Health
    minute: Minute
    clock: Clock

    def session(self, token: str) -> Session:
        return Session(
            device=self.device,
            version=__version__,
            source=self.source,
            camera=self.camera,
            emotions=EMOTIONS,
            token=token,
        )

    def last_minute(self) -> LastMinute:
        frames = (seen_frame(seen.result, seen.latency_ms) for seen in self.minute.results())
        return LastMinute(
            time=self.clock.now(),
            device=self.device,
            condition=condition(self.health),
            frames=tuple(frames),
        )
