"""Measurements of one run of the pipeline."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from edge_daemon.capture import Picture, Reader, Source
from edge_daemon.records import FrameResult

CAPTURE: Final = "capture"


class Instant(NamedTuple):
    """Seconds on two clocks."""

    wall: float
    processor: float
    """Of all threads of this process together."""


class FrameSummary(NamedTuple):
    """What a frame contains."""

    width: int
    height: int
    faces: int
    members: int
    """Models used for its faces."""


class Stopwatch:
    """Collects measurements; one thread writes each list, which has an entry for each frame.

    Args:
        wall: the wall clock, in seconds.
        processor: the processor time, in seconds.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self.seconds: dict[str, list[float]] = {CAPTURE: []}
        """Durations in each stage."""
        self.frames: list[FrameSummary] = []
        self.finished = [Instant(wall(), processor())]
        """The start, then the end of each frame's last stage."""
        self.wall = wall
        self._processor = processor

    def record(self, stage: str, seconds: float) -> None:
        """Add a frame's duration in a stage."""
        self.seconds.setdefault(stage, []).append(seconds)

    def finish(self, result: FrameResult) -> None:
        """Add a frame that has passed all stages; not the blank one at the end."""
        if result.frame.blank:
            return
        members = max((face.members for face in result.faces), default=0)
        frame = result.frame
        self.frames.append(FrameSummary(frame.width, frame.height, len(result.faces), members))
        self.finished.append(Instant(self.wall(), self._processor()))


class TimedSource:
    """A source of files whose reads are measured."""

    live = False

    def __init__(self, source: Source, stopwatch: Stopwatch) -> None:
        self.name = source.name
        self._source = source
        self._stopwatch = stopwatch

    def open(self) -> Reader:
        return _TimedReader(self._source.open(), self._stopwatch)


class _TimedReader:
    def __init__(self, reader: Reader, stopwatch: Stopwatch) -> None:
        self._reader = reader
        self._stopwatch = stopwatch

    def read(self) -> Picture | None:
        began = self._stopwatch.wall()
        picture = self._reader.read()
        self._stopwatch.record(CAPTURE, self._stopwatch.wall() - began)
        return picture

    def close(self) -> None:
        self._reader.close()
