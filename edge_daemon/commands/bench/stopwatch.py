"""Times what each stage does with each frame, from outside: the stages know nothing of it."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from edge_daemon.capture import Picture, Reader, Source
from edge_daemon.commands.bench.repeat import Repeated
from edge_daemon.pipeline import Step, in_a_row
from edge_daemon.records import FrameResult

CAPTURE: Final = "capture"


class Instant(NamedTuple):
    """Seconds on two clocks."""

    wall: float
    processor: float
    """Of all threads of this process together."""


class Seen(NamedTuple):
    """What was in a frame."""

    width: int
    height: int
    faces: int
    members: int
    """Models that were asked about them."""


class Stopwatch:
    """What is measured of one run; each list is written by one thread and has an entry a frame.

    Args:
        frames: how many to have read, the source being repeated as needed; None for one round.
        wall: where the time is read, in seconds.
        processor: where the processor time is read, which costs some itself.
    """

    def __init__(
        self,
        frames: int | None,
        wall: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self.seconds: dict[str, list[float]] = {CAPTURE: []}
        """How long each stage took."""
        self.seen: list[Seen] = []
        self.finished = [Instant(wall(), processor())]
        """When frames had gone through all stages, behind the time of the start."""
        self._frames = frames
        self._wall = wall
        self._processor = processor

    def source(self, source: Source) -> Source:
        """The source, whose reads are timed.

        Raises:
            SettingsError: it is live.
        """
        return _TimedSource(Repeated(source, self._frames), self)

    def stages(self, stages: Sequence[tuple[str, Sequence[Step]]]) -> list[tuple[str, list[Step]]]:
        """The stages, each timed as a whole."""
        timed = [(name, [self.timed(name, in_a_row(steps))]) for name, steps in stages]
        last, steps = timed[-1]
        return [*timed[:-1], (last, [self._see, *steps, self._finish])]

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, whose time is noted each time under a name."""
        seconds = self.seconds.setdefault(name, [])

        def timed(*given: Any) -> Any:  # noqa: ANN401  # whatever the stages hand on
            began = self._wall()
            outcome = call(*given)
            seconds.append(self._wall() - began)
            return outcome

        return timed

    def _see(self, result: FrameResult) -> FrameResult:
        members = max((face.members for face in result.faces), default=0)
        frame = result.frame
        self.seen.append(Seen(frame.width, frame.height, len(result.faces), members))
        return result

    def _finish(self, _outcome: object) -> None:
        self.finished.append(Instant(self._wall(), self._processor()))


class _TimedSource:
    """A source of files with a stopwatch at its readers."""

    live = False

    def __init__(self, source: Source, stopwatch: Stopwatch) -> None:
        self.name = source.name
        self._source = source
        self._stopwatch = stopwatch

    def open(self) -> Reader:
        return _TimedReader(self._source.open(), self._stopwatch)


class _TimedReader:
    def __init__(self, reader: Reader, stopwatch: Stopwatch) -> None:
        self.close = reader.close
        self._read = stopwatch.timed(CAPTURE, reader.read)

    def read(self) -> Picture | None:
        picture: Picture | None = self._read()
        return picture
