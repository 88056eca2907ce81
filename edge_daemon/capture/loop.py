"""Reads a source for as long as it gives frames, and opens a live one again when it is lost."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from edge_daemon.backoff import backoff_delays
from edge_daemon.capture.base import Picture, Reader, Source
from edge_daemon.clock import Clock
from edge_daemon.errors import SourceLost
from edge_daemon.records import Frame

logger = logging.getLogger(__name__)

Busy = Callable[[], AbstractContextManager[None]]
"""Marks a call that may hang, so that the supervisor can watch it."""

PACING_SLACK: Final = 0.9
"""A camera that keeps its rate must never be made to wait by a timer that is a little slow."""


class CaptureLoop:
    """The work of the capture thread.

    Args:
        source: what to read.
        clock: where the time is read.
        max_fps: frames a second at most, for live sources: some give them as fast as asked.
        numbers: where frames get their index from; a successor goes on counting.
    """

    def __init__(
        self, source: Source, clock: Clock, max_fps: float, numbers: Iterator[int] | None = None
    ) -> None:
        self.live = source.live
        self.name = source.name
        self._source = source
        self._clock = clock
        self._max_fps = max_fps
        self._numbers = numbers or itertools.count()
        self._abandoned = threading.Event()
        self._lost_at: float | None = None
        self._next_due = 0.0

    def run(self, put: Callable[[Frame], None], busy: Busy) -> None:
        """Put frames until the source ends or the loop is abandoned.

        Raises:
            SourceError: the source cannot be read, and it is not a live one that may come back.
        """
        delays = backoff_delays()
        while not self._abandoned.is_set():
            try:
                for frame in self._frames(busy):
                    delays = backoff_delays()
                    put(frame)
            except SourceLost as loss:
                self._tell_loss(loss)
                self._abandoned.wait(next(delays))
            else:
                return

    def abandon(self) -> None:
        self._abandoned.set()

    def successor(self) -> "CaptureLoop":
        successor = CaptureLoop(self._source, self._clock, self._max_fps, self._numbers)
        successor._lost_at = self._clock.monotonic()  # the hang was told; so will be the return
        return successor

    def _frames(self, busy: Busy) -> Iterator[Frame]:
        """The frames of one opening of the source."""
        with busy():
            reader = self._source.open()
        try:
            while (picture := self._read(reader, busy)) is not None:
                if self._abandoned.is_set():
                    return
                self._tell_return()
                yield self._stamped(picture)
        finally:
            with busy():  # drivers hang in closing, too
                reader.close()

    def _read(self, reader: Reader, busy: Busy) -> Picture | None:
        if self.live:
            self._abandoned.wait(max(0.0, self._next_due - self._clock.monotonic()))
            self._next_due = self._clock.monotonic() + PACING_SLACK / self._max_fps
        with busy():
            return reader.read()

    def _stamped(self, picture: Picture) -> Frame:
        monotonic = self._clock.monotonic()
        return Frame(
            index=next(self._numbers),
            scene=picture.scene,
            bgr=picture.bgr,
            captured_at=self._clock.now(),
            captured_monotonic=monotonic,
            stream_time=monotonic if picture.stream_time is None else picture.stream_time,
            reduced=picture.reduced,
        )

    def _tell_loss(self, loss: SourceLost) -> None:
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
            logger.warning("source lost, trying again", extra={"error": str(loss)})

    def _tell_return(self) -> None:
        if self._lost_at is not None:
            away = self._clock.monotonic() - self._lost_at
            self._lost_at = None
            logger.info("source is back", extra={"source": self.name, "seconds": round(away, 1)})
