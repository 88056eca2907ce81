"""Reads a source for as long as it gives frames, and opens a live one again when it is lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from edge_daemon._lib.backoff import backoff_delays
from edge_daemon._lib.clock import Clock
from edge_daemon.capture.base import FlowingReader, Picture, Reader, Source
from edge_daemon.capture.frame_checks import FrameChecks
from edge_daemon.capture.frames import FrameMaker
from edge_daemon.capture.pause import Pause
from edge_daemon.capture.status import SourceStatus
from edge_daemon.config.settings import TrackingSettings
from edge_daemon.errors import SourceLost
from edge_daemon.records import Frame, SourceState

Busy = Callable[[], AbstractContextManager[None]]
"""Marks a call that may hang, so that the supervisor can watch it."""

PACING_SLACK: Final = 0.9
"""A camera that keeps its rate must never be made to wait by a timer that is a little slow."""

MAX_WAIT_S: Final = 60.0
"""Seconds between two checks of a pause that lasts."""


@dataclass(frozen=True)
class _History:
    """State of a source through all its openings."""

    status: SourceStatus
    frames: FrameMaker
    checks: FrameChecks


class CaptureLoop:
    """The work of the capture thread.

    While it is paused, a live source is closed; a file stays open where it is. When no frames
    come, because of a pause or for longer than faces are followed, one blank frame ends the scene.

    Args:
        source: what to read.
        clock: where the time is read.
        max_fps: frames a second at most, for live sources: some give them as fast as they are read.
        pause: the privacy switch.
        max_age_s: seconds without a frame after which no face is visible any more.
        history: what a restarted capture continues; None at the start.
    """

    def __init__(
        self,
        source: Source,
        clock: Clock,
        max_fps: float,
        pause: Pause,
        max_age_s: float = 0.0,
        *,
        history: "_History | None" = None,
    ) -> None:
        self.live = source.live
        self.name = source.name
        if history is None:
            history = _History(
                SourceStatus(source.name, clock),
                FrameMaker(clock, max_age_s),
                FrameChecks(source.name, clock),
            )
        self.status = history.status
        self._frames = history.frames
        self._checks = history.checks
        self._source = source
        self._clock = clock
        self._max_fps = max_fps
        self._pause = pause
        self._abandoned = threading.Event()
        self._interrupted = threading.Event()
        self._next_due = 0.0

    def run(self, put: Callable[[Frame], None], busy: Busy) -> None:
        """Put frames until the source ends or the loop is abandoned.

        Raises:
            SourceError: the source cannot be read, and it is not a live one that may come back.
        """
        with self._pause.subscribed(self._interrupted.set):
            for frame in self._all_frames(busy):
                put(frame)

    def abandon(self) -> None:
        self._abandoned.set()
        self._interrupted.set()

    def apply(self, settings: TrackingSettings) -> None:
        """Use another `max_age`, also in restarted captures."""
        self._frames.apply(settings)

    def restarted(self) -> "CaptureLoop":
        self.status.lost()  # the stall is logged already; the return will be
        return CaptureLoop(
            self._source,
            self._clock,
            self._max_fps,
            self._pause,
            history=_History(self.status, self._frames, self._checks),
        )

    def _all_frames(self, busy: Busy) -> Iterator[Frame]:
        """The frames of one opening after another."""
        delays = backoff_delays()
        while True:
            yield from self._paused()
            if self._abandoned.is_set():
                return
            yield from self._silence()
            try:
                for frame in self._opened(busy):
                    delays = backoff_delays()
                    yield frame
            except SourceLost as loss:
                if not self._abandoned.is_set():
                    self.status.lost(loss)
                    yield from self._wait(next(delays))
            else:
                if not self._must_close:
                    return

    def _opened(self, busy: Busy) -> Iterator[Frame]:
        """The frames of one opening of the source."""
        with busy():
            reader = self._source.open()
        try:
            while (picture := self._read(reader, busy)) is not None:
                if not self.live:
                    yield from self._paused()
                if self._must_close:
                    return
                self.status.running()
                if self.live and picture.position_s is None and picture.file is None:
                    self._checks.check(picture.bgr)
                yield self._frames.frame(picture)
        finally:
            with busy():  # drivers hang in closing, too
                reader.close()

    def _read(self, reader: Reader, busy: Busy) -> Picture | None:
        if self.live:
            self._wait_for_next(reader, busy)
            self._next_due = self._clock.monotonic() + PACING_SLACK / self._max_fps
        if self._must_close:
            return None
        with busy():
            return reader.read()

    def _wait_for_next(self, reader: Reader, busy: Busy) -> None:
        """Wait until another picture is wanted; what a stream sends before that goes by."""
        if not isinstance(reader, FlowingReader):
            self._interrupted.wait(max(0.0, self._next_due - self._clock.monotonic()))
            return
        while self._clock.monotonic() < self._next_due and not self._must_close:
            with busy():
                reader.skip()

    @property
    def _must_close(self) -> bool:
        """Whether an open source must be closed now; for a live one, any change of the pause."""
        return self._abandoned.is_set() or (self.live and self._interrupted.is_set())

    def _paused(self) -> Iterator[Frame]:
        """Wait for as long as the source is paused; no face is visible then."""
        self._interrupted.clear()
        while self._pause.paused and not self._abandoned.is_set():
            self.status.paused()
            yield from self._blank()
            self._interrupted.wait(MAX_WAIT_S)
            self._interrupted.clear()
        if self.status.state is SourceState.PAUSED and not self._abandoned.is_set():
            self.status.starting()

    def _wait(self, seconds: float) -> Iterator[Frame]:
        """Wait before the next attempt; end the scene as soon as no face is followed any more."""
        end = self._clock.monotonic() + seconds
        self._interrupted.wait(min(seconds, self._frames.face_age_left_s))
        yield from self._silence()
        self._interrupted.wait(max(0.0, end - self._clock.monotonic()))

    def _silence(self) -> Iterator[Frame]:
        """End the scene once no frame has come for as long as faces are followed."""
        if self._frames.face_age_left_s == 0:
            yield from self._blank()

    def _blank(self) -> Iterator[Frame]:
        if (frame := self._frames.blank()) is not None:
            yield frame
