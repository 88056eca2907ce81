"""Reads a source for as long as it gives frames, and opens a live one again when it is lost.

Frames are numbered and timestamped through all openings. Frames of a live source are checked for
what is no error but leaves nothing to see: the lens is covered, it is night, or the camera repeats
one frame. The program cannot fix these, so it logs when one begins and when it ends.
"""

import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from edge_daemon._lib.clock import Clock, Outage, backoff_delays
from edge_daemon.capture.base import CapturedFrame, Reader, Source, SupportsSchedule, SupportsSkip
from edge_daemon.capture.status import Pause, SourceStatus
from edge_daemon.config.settings import TrackingSettings
from edge_daemon.errors import SourceError, SourceLost
from edge_daemon.pipeline import Busy
from edge_daemon.records import Frame, Image, SourceState, black_image

logger = logging.getLogger(__name__)

PACING_SLACK: Final = 0.9
"""A camera that keeps its rate must never be made to wait by a timer that is a little slow."""

MAX_FRAME_GAP_S: Final = 1.0
"""Seconds between two frames of a file that are never a silence, however short `max_age` is."""

PAUSE_CHECK_INTERVAL_S: Final = 60.0
"""Seconds between two checks of a pause that lasts."""

CLOSE_CHECK_INTERVAL_S: Final = 1.0
"""Seconds between two checks of whether a stalled capture has closed the source."""

MAX_HELD_S: Final = 120.0
"""Time without a frame after which a source that a stalled capture holds open ends the program: a
device that is open in a hung thread cannot be opened again by the same process."""


class FrameMaker:
    """Makes frames, and the blank ones that end a scene when no frame comes.

    Of a frame it keeps the shape and the time, never the pixels.

    Args:
        clock: the clock to use.
        max_age_s: seconds without a frame after which no face is visible any more.
    """

    def __init__(self, clock: Clock, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._clock = clock
        self._numbers = itertools.count()
        self._scene = 0
        self._scenes_ended = 0
        self._shape: tuple[int, ...] | None = None
        self._stream_time: float | None = None
        self._position_s: float | None = None
        self._video_began: datetime | None = None
        self._made_at = 0.0

    def apply(self, settings: TrackingSettings) -> None:
        """Use another `max_age`."""
        self._max_age_s = settings.max_age

    def frame(self, captured: CapturedFrame) -> Frame:
        monotonic = self._clock.monotonic()
        self._scene = captured.scene
        self._shape = captured.bgr.shape
        self._stream_time = captured.stream_time_s
        self._position_s = captured.position_s
        self._made_at = monotonic
        return Frame(
            index=next(self._numbers),
            scene=self._scenes_ended + captured.scene,
            bgr=captured.bgr,
            captured_at=self._captured_at(captured),
            captured_monotonic_s=monotonic,
            stream_time_s=monotonic if captured.stream_time_s is None else captured.stream_time_s,
            reduced=captured.reduced,
            position_s=captured.position_s,
            file=captured.file,
            reduction=captured.reduction,
        )

    def _captured_at(self, captured: CapturedFrame) -> datetime:
        """The wall clock; for a video, which can be read at any speed, its own time.

        Its first frame is captured now, and all others at their distance from it.
        """
        now = self._clock.now()
        if captured.position_s is None or captured.stream_time_s is None:
            return now
        elapsed = timedelta(seconds=captured.stream_time_s)
        if self._video_began is None:
            self._video_began = now - elapsed
        return self._video_began + elapsed

    def blank(self) -> Frame | None:
        """A frame that ends the scene, and with it every visit; None if there is none to end."""
        if self._shape is None:
            return None
        self._scenes_ended += 1
        frame = self.frame(
            CapturedFrame(
                black_image(self._shape),
                self._stream_time,
                self._scene,
                position_s=self._position_s,
            )
        )
        self._shape = None
        return dataclasses.replace(frame, is_blank=True)

    @property
    def face_age_left_s(self) -> float:
        """Seconds for which faces may still be followed while no frame comes; 0 if none is."""
        return max(0.0, self._made_at + self._max_age_s - self._clock.monotonic())


MAX_DARK_GREY: Final = 10.0
"""Mean grey, 0 to 255, below which a frame is dark: no detector finds a face in it."""

CHECK_INTERVAL_S: Final = 1.0

CHECKS_UNTIL_LOGGED: Final = 60
"""Checks in a row that must find a condition before it is logged: lights go out for moments."""

SAMPLE_STEP: Final = 16
"""One pixel of so many is checked, in each direction."""


class FrameChecks:
    """Checks the frames of one camera for darkness, and for identical frames.

    A sensor has noise, so two of its frames are never identical.

    Args:
        source: the source's name.
        clock: the clock to use.
    """

    def __init__(self, source: str, clock: Clock) -> None:
        self._clock = clock
        self._next_check = clock.monotonic()
        self._last: Image | None = None
        self._dark = _Condition(source, clock, "image is dark", "image is bright again")
        self._frozen = _Condition(source, clock, "image is frozen", "image changes again")

    def check(self, bgr: Image) -> None:
        """Check a frame, BGR uint8, unless the last check was a moment ago."""
        now = self._clock.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL_S
        sample = bgr[::SAMPLE_STEP, ::SAMPLE_STEP].copy()
        self._dark.update(holds=float(sample.mean()) < MAX_DARK_GREY)
        self._frozen.update(holds=self._last is not None and np.array_equal(sample, self._last))
        self._last = sample


class _Condition:
    """Something that lasts: logged once it has held for a while, and once more when it ends."""

    def __init__(self, source: str, clock: Clock, begin_event: str, end_event: str) -> None:
        self._source = source
        self._begin_event = begin_event
        self._end_event = end_event
        self._checks = 0
        self._outage = Outage(clock)

    def update(self, *, holds: bool) -> None:
        if not holds:
            self._checks = 0
            if (lasted_s := self._outage.end()) is not None:
                extra = {"source": self._source, "seconds": lasted_s}
                logger.info(self._end_event, extra=extra)
            return
        self._checks += 1
        if self._checks >= CHECKS_UNTIL_LOGGED and self._outage.begin():
            logger.warning(self._begin_event, extra={"source": self._source})


@dataclass
class _SharedState:
    """State of a source through all its openings."""

    status: SourceStatus
    frames: FrameMaker
    checks: FrameChecks
    holders: "set[CaptureLoop]" = field(default_factory=set)
    """Captures that may hold the source open, stalled ones among them."""
    delays: Iterator[float] | None = None
    """Delays before the next openings; None once the source gives frames."""


class CaptureLoop:
    """The work of the capture thread.

    While it is paused, a live source is closed; a file stays open where it is. When no frames
    come, because of a pause or for longer than faces are followed, one blank frame ends the scene.

    Args:
        source: what to read.
        clock: the clock to use.
        max_fps: frames a second at most, for live sources: some give them as fast as they are read.
        pause: the privacy switch.
        max_age_s: seconds without a frame after which no face is visible any more.
        shared: what a restarted capture continues; None at the start.
    """

    def __init__(
        self,
        source: Source,
        clock: Clock,
        max_fps: float,
        pause: Pause,
        max_age_s: float = 0.0,
        *,
        shared: "_SharedState | None" = None,
    ) -> None:
        self.is_live = source.is_live
        self.name = source.name
        if shared is None:
            shared = _SharedState(
                SourceStatus(source.name, clock),
                FrameMaker(clock, max_age_s),
                FrameChecks(source.name, clock),
            )
            if pause.paused:
                shared.status.paused()
        self.status = shared.status
        self._shared = shared
        self._frames = shared.frames
        self._checks = shared.checks
        self._source = source
        self._clock = clock
        self._max_fps = max_fps
        self._pause = pause
        self._abandoned = threading.Event()
        self._interrupted = threading.Event()
        # Closes an open source: for a live one, any change of the pause does.
        self._closing = self._interrupted if source.is_live else self._abandoned
        self._next_due = 0.0

    def run(self, put: Callable[[Frame], None], busy: Busy) -> None:
        """Put frames until the source ends or the loop is abandoned.

        Raises:
            SourceError: the source cannot be read, and it is not a live one that may come back; or
                a stalled capture has held it open for too long.
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
        self._shared.delays = self._shared.delays or backoff_delays()
        return CaptureLoop(
            self._source,
            self._clock,
            self._max_fps,
            self._pause,
            shared=self._shared,
        )

    def _all_frames(self, busy: Busy) -> Iterator[Frame]:
        """The frames of one opening after another."""
        if self._shared.delays is not None and not self._pause.paused:  # after a stall
            yield from self._wait(next(self._shared.delays))
        while True:
            yield from self._wait_while_paused()
            if self._abandoned.is_set():
                return
            yield from self._end_scene_if_silent()
            try:
                for frame in self._frames_of_one_opening(busy):
                    self._shared.delays = None
                    yield frame
            except SourceLost as loss:
                if not self._abandoned.is_set():
                    self.status.lost(loss)
                    self._require_not_held()
                    self._shared.delays = self._shared.delays or backoff_delays()
                    yield from self._wait(next(self._shared.delays))
            else:
                # Interrupted by a pause, it opens again afterwards.
                if not self._closing.is_set():
                    return

    @property
    def _is_held(self) -> bool:
        """Whether a stalled capture may hold the source open."""
        return bool(self._shared.holders - {self})

    def _require_not_held(self) -> None:
        if self._is_held and self.status.lost_s > MAX_HELD_S:
            raise SourceError(
                f"{self.name}: no frame for {self.status.lost_s:.0f} s, and a stalled read may hold"
                " it open; check the device and its cable, and start again"
            )

    def _frames_of_one_opening(self, busy: Busy) -> Iterator[Frame]:
        """The frames of one opening of the source."""
        self._shared.holders.add(self)  # a hung opening can hold the source, too
        try:
            with busy:
                reader = self._source.open()
        except BaseException:
            self._shared.holders.discard(self)
            raise
        try:
            while True:
                if self.is_live:
                    yield from self._wait_for_next(reader, busy)
                if (captured := self._read(reader, busy)) is None:
                    return
                if not self.is_live and self._pause.paused:
                    yield from self._wait_while_paused()
                if self._closing.is_set():
                    return
                if self.status.state is not SourceState.RUNNING:
                    self.status.running()
                if self.is_live and captured.position_s is None and captured.file is None:
                    self._checks.check(captured.bgr)
                yield self._frames.frame(captured)
        finally:
            with busy:  # drivers hang in closing, too
                reader.close()
            self._shared.holders.discard(self)

    def _read(self, reader: Reader, busy: Busy) -> CapturedFrame | None:
        """The next frame; None if the source has ended or must be closed."""
        if self._closing.is_set():
            return None
        self._next_due = self._clock.monotonic() + PACING_SLACK / self._max_fps
        with busy:
            return reader.read()

    def _wait_for_next(self, reader: Reader, busy: Busy) -> Iterator[Frame]:
        """Wait until the rate allows another frame, and until it is due; skip those of a stream.

        The wait is interruptible and not busy: the frames of a file can be minutes apart.
        """
        if isinstance(reader, SupportsSkip):
            while self._clock.monotonic() < self._next_due and not self._closing.is_set():
                with busy:
                    reader.skip()
            return
        self._interrupted.wait(max(0.0, self._next_due - self._clock.monotonic()))
        if isinstance(reader, SupportsSchedule) and not self._closing.is_set():
            with busy:
                delay_s = reader.prepare()
            if delay_s > MAX_FRAME_GAP_S:
                yield from self._wait(delay_s)
            else:
                self._interrupted.wait(delay_s)

    def _wait_while_paused(self) -> Iterator[Frame]:
        """Wait for as long as the source is paused; no face is visible then.

        It is reported as paused once no stalled capture holds it open.
        """
        self._interrupted.clear()
        while self._pause.paused and not self._abandoned.is_set():
            if not (is_held := self._is_held):
                self.status.paused()
            yield from self._blank_frame()
            self._interrupted.wait(CLOSE_CHECK_INTERVAL_S if is_held else PAUSE_CHECK_INTERVAL_S)
            self._interrupted.clear()
        if self.status.state is SourceState.PAUSED and not self._abandoned.is_set():
            self.status.starting()

    def _wait(self, seconds: float) -> Iterator[Frame]:
        """Wait without a frame; end the scene as soon as no face is followed any more."""
        end = self._clock.monotonic() + seconds
        self._interrupted.wait(min(seconds, self._frames.face_age_left_s))
        yield from self._end_scene_if_silent()
        self._interrupted.wait(max(0.0, end - self._clock.monotonic()))

    def _end_scene_if_silent(self) -> Iterator[Frame]:
        """End the scene once no frame has come for as long as faces are followed."""
        if self._frames.face_age_left_s == 0:
            yield from self._blank_frame()

    def _blank_frame(self) -> Iterator[Frame]:
        if (frame := self._frames.blank()) is not None:
            yield frame
