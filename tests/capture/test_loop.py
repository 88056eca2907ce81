import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import pytest
from conftest import FakeClock
from running import eventually

from edge_daemon._lib.clock import Clock
from edge_daemon.capture import CapturedFrame, SourceKind
from edge_daemon.capture.loop import MAX_HELD_S, CaptureLoop
from edge_daemon.capture.status import LOG_INTERVAL_S, Pause
from edge_daemon.errors import SourceError, SourceLost
from edge_daemon.records import Frame, SourceState

Step = CapturedFrame | Exception | None
PICTURE = CapturedFrame(np.zeros((4, 6, 3), np.uint8))
LOST = SourceLost("fake: gone")


class FakeSource:
    """Plays a script: for each opening, what the reader gives in turn; a failure is raised."""

    name = "fake"
    kind = SourceKind.CAMERA

    def __init__(self, *openings: Sequence[Step] | Exception, live: bool = True) -> None:
        self.is_live = live
        self.readers: list[FakeReader] = []
        self._openings = iter(openings)

    def open(self) -> "FakeReader":
        assert all(reader.closed for reader in self.readers), "two readers open at once"
        opening = next(self._openings)
        if isinstance(opening, Exception):
            raise opening
        self.readers.append(FakeReader(opening))
        return self.readers[-1]

    @property
    def all_closed(self) -> bool:
        return all(reader.closed for reader in self.readers)


class FakeReader:
    def __init__(self, steps: Iterable[Step]) -> None:
        self.closed = False
        self._steps = iter(steps)

    def read(self) -> CapturedFrame | None:
        assert not self.closed
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.closed = True


class HangingReader(FakeReader):
    """Its reads hang until they are released."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(steps)
        self.reading, self.released = threading.Event(), threading.Event()

    def read(self) -> CapturedFrame | None:
        self.reading.set()
        assert self.released.wait(10)
        return super().read()


class Watch(AbstractContextManager[None]):
    """Counts the calls that were marked as such that may hang."""

    def __init__(self) -> None:
        self.calls = 0
        self.inside = False

    def __enter__(self) -> None:
        assert not self.inside
        self.calls += 1
        self.inside = True

    def __exit__(self, *_: object) -> None:
        self.inside = False


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No pauses between two attempts; how many there were since the last frame, at most."""
    counts = [0]

    def no_delays() -> Iterator[float]:
        for count in itertools.count(1):
            counts[0] = max(counts[0], count)
            yield 0.0

    monkeypatch.setattr("edge_daemon.capture.loop.backoff_delays", no_delays)
    return counts


MEMORY = 2.0
"""Seconds for which a face that is not seen is remembered."""


def loop_of(
    source: FakeSource, clock: Clock, *, fps: float = 1000.0, pause: Pause | None = None
) -> CaptureLoop:
    return CaptureLoop(source, clock, fps, pause or Pause(), MEMORY)


def run(
    source: FakeSource, clock: FakeClock, *, fps: float = 1000.0, watch: Watch | None = None
) -> list[Frame]:
    frames: list[Frame] = []
    loop_of(source, clock, fps=fps).run(frames.append, watch or Watch())
    return frames


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, dict[str, object]]]:
    return [(record.levelno, vars(record)) for record in caplog.records]


def test_frames_are_numbered_and_stamped(clock: FakeClock) -> None:
    pictures = [
        CapturedFrame(PICTURE.bgr, stream_time_s=number / 2, scene=number) for number in range(3)
    ]
    frames = run(FakeSource([*pictures, None], live=False), clock)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.scene for frame in frames] == [0, 1, 2]
    assert [frame.stream_time_s for frame in frames] == [0.0, 0.5, 1.0]
    assert {frame.captured_at for frame in frames} == {clock.now()}
    assert {frame.captured_monotonic_s for frame in frames} == {clock.monotonic()}
    assert (frames[0].width, frames[0].height) == (6, 4)


def test_live_frames_stand_at_the_time_when_they_were_read(clock: FakeClock) -> None:
    class Slow(FakeReader):
        def read(self) -> CapturedFrame | None:
            clock.seconds += 2.5
            return super().read()

    source = FakeSource()
    source.open = lambda: Slow([PICTURE, PICTURE, None])  # type: ignore[method-assign]
    frames = run(source, clock)
    assert [frame.stream_time_s for frame in frames] == [1002.5, 1005.0]
    assert [frame.captured_monotonic_s for frame in frames] == [1002.5, 1005.0]


def test_reduced_picture_is_passed_on(clock: FakeClock) -> None:
    small = np.zeros((2, 3, 3), np.uint8)
    (frame,) = run(FakeSource([CapturedFrame(PICTURE.bgr, reduced=small), None]), clock)
    assert frame.reduced is small


def test_opening_every_read_and_closing_are_watched(clock: FakeClock) -> None:
    watch = Watch()
    inside: list[bool] = []
    loop_of(FakeSource([PICTURE, PICTURE, None]), clock).run(
        lambda _frame: inside.append(watch.inside), watch
    )
    assert watch.calls == 1 + 3 + 1
    assert inside == [False, False]


def test_reader_is_closed_at_the_sources_end(clock: FakeClock) -> None:
    source = FakeSource([PICTURE, None], live=False)
    run(source, clock)
    assert len(source.readers) == 1
    assert source.all_closed


def test_lost_source_is_opened_again_and_frames_count_on(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, waits: list[int]
) -> None:
    caplog.set_level(logging.INFO)
    source = FakeSource(
        [PICTURE, PICTURE, LOST], SourceLost("not there"), [LOST], [PICTURE, PICTURE, None]
    )
    frames = run(source, clock)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert len(source.readers) == 3
    assert source.all_closed
    assert waits == [3]


def test_loss_and_return_are_logged_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def away(seconds: float) -> Iterator[Step]:
        clock.seconds += seconds
        yield LOST

    run(FakeSource([PICTURE, LOST], away(2), away(40), [PICTURE, PICTURE, None]), clock)
    (lost, loss), (back, come_back) = logged(caplog)
    assert (lost, back) == (logging.WARNING, logging.INFO)
    assert loss["error"] == "fake: gone"
    assert (come_back["source"], come_back["seconds"]) == ("fake", 42.0)


def steps_after(clock: FakeClock, seconds: float, *steps: Step) -> Iterator[Step]:
    clock.seconds += seconds
    yield from steps


def test_losses_in_quick_succession_are_logged_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    flapping = [steps_after(clock, 1, PICTURE, LOST) for _ in range(30)]
    later = steps_after(clock, LOG_INTERVAL_S, PICTURE, LOST)
    run(FakeSource([PICTURE, LOST], *flapping, later, [PICTURE, None]), clock)
    assert [record.message for record in caplog.records] == [
        "source lost, retrying",
        "source is back",
        "source lost, retrying",
        "source is back",
    ]
    assert vars(caplog.records[2])["suppressed"] == 30


def test_loss_soon_after_another_is_logged_if_it_lasts(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    again = steps_after(clock, 1, PICTURE, LOST)
    gone = [steps_after(clock, LOG_INTERVAL_S / 4, LOST) for _ in range(5)]
    run(FakeSource([PICTURE, LOST], again, *gone, [PICTURE, None]), clock)
    assert [record.message for record in caplog.records] == [
        "source lost, retrying",
        "source is back",
        "source lost, retrying",
        "source is back",
    ]
    assert vars(caplog.records[3])["seconds"] == 5 * LOG_INTERVAL_S / 4


def test_other_reasons_of_one_loss_are_logged(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    refused, forbidden = SourceLost("refused"), SourceLost("forbidden")
    run(FakeSource([PICTURE, LOST], refused, refused, [forbidden], refused, [None]), clock)
    reasons = [fields["error"] for _, fields in logged(caplog)]
    assert reasons == ["fake: gone", "refused", "forbidden"]


def test_file_of_a_loop_is_not_checked_for_frozen_frames(clock: FakeClock) -> None:
    image = dataclasses.replace(PICTURE, file="face.jpg")
    loop = loop_of(FakeSource([image, None]), clock)
    loop.run([].append, Watch())
    assert loop._checks._last is None


def test_pauses_grow_until_frames_come_again(clock: FakeClock, waits: list[int]) -> None:
    run(FakeSource([LOST], [LOST], [PICTURE, LOST], [LOST], [None]), clock)
    assert waits == [2]


@pytest.mark.parametrize("live", [True, False])
def test_damaged_source_is_an_error_and_its_reader_closed(clock: FakeClock, *, live: bool) -> None:
    source = FakeSource([PICTURE, SourceError("fake: damaged")], live=live)
    with pytest.raises(SourceError, match="damaged"):
        run(source, clock)
    assert source.all_closed


def test_reader_is_closed_when_frames_cannot_be_put(clock: FakeClock) -> None:
    source = FakeSource([PICTURE, PICTURE, None])

    def refuse(_frame: Frame) -> None:
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        loop_of(source, clock).run(refuse, Watch())
    assert source.all_closed


def test_abandoned_loop_puts_nothing_more_and_closes_its_reader(clock: FakeClock) -> None:
    source = FakeSource([PICTURE] * 5)
    frames: list[Frame] = []

    def put(frame: Frame) -> None:
        frames.append(frame)
        if len(frames) == 2:
            loop.abandon()

    loop = loop_of(source, clock)
    loop.run(put, Watch())
    assert len(frames) == 2
    assert source.all_closed


def test_loop_abandoned_before_it_starts_opens_nothing(clock: FakeClock) -> None:
    source = FakeSource()
    loop = loop_of(source, clock)
    loop.abandon()
    loop.run(lambda _frame: None, Watch())
    assert source.readers == []


def run_in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_abandoning_ends_the_wait_for_a_lost_source(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()

    def long_delays() -> Iterator[float]:
        while True:
            waiting.set()
            yield 60.0

    monkeypatch.setattr("edge_daemon.capture.loop.backoff_delays", long_delays)
    loop = loop_of(FakeSource([LOST]), clock)
    thread = run_in_thread(lambda: loop.run(lambda _frame: None, Watch()))
    assert waiting.wait(10)
    loop.abandon()
    thread.join(10)
    assert not thread.is_alive()


def test_hung_read_that_comes_back_late_is_not_put(clock: FakeClock) -> None:
    source = FakeSource()
    reader = HangingReader(PICTURE)
    source.open = lambda: reader  # type: ignore[method-assign]
    frames: list[Frame] = []
    loop = loop_of(source, clock)
    thread = run_in_thread(lambda: loop.run(frames.append, Watch()))
    assert reader.reading.wait(10)
    loop.abandon()
    reader.released.set()
    thread.join(10)
    assert not thread.is_alive()
    assert frames == []
    assert reader.closed


def test_pause_is_done_once_a_stalled_read_closes_the_source(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.capture.loop.CLOSE_CHECK_INTERVAL_S", 0.02)
    source = FakeSource()
    reader = HangingReader(PICTURE)
    source.open = lambda: reader  # type: ignore[method-assign]
    pause = Pause()
    loop = loop_of(source, clock, pause=pause)
    stalled = run_in_thread(lambda: loop.run([].append, Watch()))
    assert reader.reading.wait(10)
    pause.set(True)
    loop.abandon()
    restarted = loop.restarted()
    thread = run_in_thread(lambda: restarted.run([].append, Watch()))
    eventually(lambda: restarted.status.state is SourceState.LOST)
    thread.join(0.2)
    assert restarted.status.state is SourceState.LOST
    reader.released.set()
    eventually(lambda: restarted.status.state is SourceState.PAUSED)
    assert reader.closed
    restarted.abandon()
    for each in (stalled, thread):
        each.join(10)
        assert not each.is_alive()


def test_source_held_by_a_stalled_read_ends_the_loop(clock: FakeClock) -> None:
    reader = HangingReader(None)

    class Held(FakeSource):
        attempts = 0

        def open(self) -> FakeReader:
            if not reader.reading.is_set():
                return reader
            self.attempts += 1
            clock.seconds += MAX_HELD_S / 3
            raise LOST

    source = Held()
    loop = loop_of(source, clock)
    stalled = run_in_thread(lambda: loop.run([].append, Watch()))
    assert reader.reading.wait(10)
    loop.abandon()
    with pytest.raises(SourceError, match=r"^fake: ") as raised:
        loop.restarted().run([].append, Watch())
    assert not isinstance(raised.value, SourceLost)
    assert source.attempts == 4
    reader.released.set()
    stalled.join(10)


def test_restarted_reads_the_same_source_and_counts_on(clock: FakeClock) -> None:
    source = FakeSource([PICTURE, PICTURE, None], [PICTURE, None])
    loop = loop_of(source, clock)
    frames: list[Frame] = []
    loop.run(frames.append, Watch())
    loop.abandon()
    restarted = loop.restarted()
    assert (restarted.name, restarted.is_live) == (loop.name, loop.is_live)
    restarted.run(frames.append, Watch())
    assert [frame.index for frame in frames] == [0, 1, 2]


def test_return_of_a_stalled_source_is_logged(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    restarted = loop_of(FakeSource([PICTURE, None]), clock).restarted()
    clock.seconds += 7.0
    restarted.run([].append, Watch())
    (record,) = caplog.records
    assert (record.message, vars(record)["seconds"]) == ("source is back", 7.0)


class Pauses:
    """Stands in for the loop's event: notes the waits, and lets the clock run through them."""

    def __init__(self, clock: FakeClock) -> None:
        self.total = 0.0
        self._clock = clock

    def wait(self, seconds: float) -> None:
        self.total += seconds
        self._clock.seconds += seconds

    def is_set(self) -> bool:
        return False

    def clear(self) -> None:
        """Nothing interrupts."""

    def set(self) -> None:
        raise AssertionError


class Scheduled(FakeReader):
    """A reader whose frames are due `delay_s` after the one before."""

    def __init__(self, steps: Iterable[Step], delay_s: float) -> None:
        super().__init__(steps)
        self.prepared = threading.Event()
        self._delay_s = delay_s

    def prepare(self) -> float:
        self.prepared.set()
        return self._delay_s


def test_scheduled_frames_are_awaited_outside_watched_calls(clock: FakeClock) -> None:
    watch = Watch()

    class Waits(Pauses):
        def wait(self, seconds: float) -> None:
            assert not watch.inside
            super().wait(seconds)

    source = FakeSource()
    source.open = lambda: Scheduled([PICTURE, PICTURE, None], 90.0)  # type: ignore[method-assign]
    loop = loop_of(source, clock)
    loop._interrupted = Waits(clock)  # type: ignore[assignment]
    frames: list[Frame] = []
    loop.run(frames.append, watch)
    assert [frame.is_blank for frame in frames] == [False, True, False, True]
    first, blank, second, _ = (frame.captured_monotonic_s for frame in frames)
    assert blank - first == pytest.approx(MEMORY, abs=0.01)
    assert second - first == pytest.approx(90.0, abs=0.01)


@pytest.mark.parametrize("ends", ["abandoned", "paused"])
def test_wait_for_a_scheduled_frame_is_interruptible(clock: FakeClock, ends: str) -> None:
    pause = Pause()
    reader = Scheduled([PICTURE], 600.0)
    source = FakeSource()
    source.open = lambda: reader  # type: ignore[method-assign]
    loop = loop_of(source, clock, pause=pause)
    thread = run_in_thread(lambda: loop.run(lambda _frame: None, Watch()))
    assert reader.prepared.wait(10)
    if ends == "paused":
        pause.set(True)
        eventually(lambda: loop.status.state is SourceState.PAUSED)
        assert reader.closed
    loop.abandon()
    thread.join(10)
    assert not thread.is_alive()
    assert reader.closed


@pytest.mark.parametrize("live", [True, False])
def test_only_live_sources_are_paced(clock: FakeClock, *, live: bool) -> None:
    loop = loop_of(FakeSource([*[PICTURE] * 11, None], live=live), clock, fps=5)
    loop._interrupted = pauses = Pauses(clock)  # type: ignore[assignment]
    times: list[float] = []
    loop.run(lambda frame: times.append(frame.captured_monotonic_s), Watch())
    seconds = times[-1] - times[0]
    if live:
        assert 0.85 * 10 / 5 <= seconds <= 10 / 5
    else:
        assert pauses.total == 0


def test_camera_that_keeps_its_rate_is_never_made_to_wait(clock: FakeClock) -> None:
    class OnTime(FakeReader):
        def read(self) -> CapturedFrame | None:
            clock.seconds += 1 / 5
            return super().read()

    source = FakeSource()
    source.open = lambda: OnTime([*[PICTURE] * 10, None])  # type: ignore[method-assign]
    loop = loop_of(source, clock, fps=5)
    loop._interrupted = pauses = Pauses(clock)  # type: ignore[assignment]
    loop.run(lambda _frame: None, Watch())
    assert pauses.total == 0


def test_paused_file_goes_on_where_it_was_and_loses_no_picture(clock: FakeClock) -> None:
    pause = Pause()
    pictures = [CapturedFrame(PICTURE.bgr, stream_time_s=float(number)) for number in range(4)]
    source = FakeSource([*pictures, None], live=False)
    frames: list[Frame] = []

    def put(frame: Frame) -> None:
        frames.append(frame)
        pause.set(len(frames) == 2)

    loop_of(source, clock, pause=pause).run(put, Watch())
    assert [frame.is_blank for frame in frames] == [False, False, True, False, False]
    assert [frame.stream_time_s for frame in frames] == [0.0, 1.0, 1.0, 2.0, 3.0]
    assert [frame.scene for frame in frames] == [0, 0, 1, 1, 1]
    assert len(source.readers) == 1


def test_file_paused_at_its_very_end_is_not_read_again(clock: FakeClock) -> None:
    pause = Pause()

    def pictures() -> Iterator[Step]:
        yield PICTURE
        pause.set(True)
        pause.set(False)
        yield None

    source = FakeSource(pictures(), live=False)
    loop_of(source, clock, pause=pause).run([].append, Watch())
    assert len(source.readers) == 1


def test_camera_paused_within_a_read_is_opened_again(clock: FakeClock) -> None:
    pause = Pause()

    def pictures() -> Iterator[Step]:
        yield PICTURE
        pause.set(True)
        pause.set(False)
        yield PICTURE

    source = FakeSource(pictures(), [PICTURE, None])
    frames: list[Frame] = []
    loop_of(source, clock, pause=pause).run(frames.append, Watch())
    assert [frame.index for frame in frames] == [0, 1]
    assert len(source.readers) == 2
    assert source.all_closed


def test_delays_grow_through_stalls_and_losses(clock: FakeClock, waits: list[int]) -> None:
    source = FakeSource(LOST, LOST, [PICTURE, LOST], [PICTURE, None])
    loop = loop_of(source, clock)
    for _ in range(3):  # each stalls before its first opening
        loop.abandon()
        loop = loop.restarted()
    loop.run([].append, Watch())
    assert waits == [3]  # before the first opening, and after the first two losses


def test_restarted_loop_reports_a_pause_without_a_delay(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.capture.loop.backoff_delays", lambda: itertools.repeat(60.0))
    pause = Pause()
    pause.set(True)
    loop = loop_of(FakeSource(), clock, pause=pause)
    loop.abandon()
    restarted = loop.restarted()
    thread = run_in_thread(lambda: restarted.run([].append, Watch()))
    eventually(lambda: restarted.status.state is SourceState.PAUSED)
    restarted.abandon()
    thread.join()


def test_abandoned_loop_no_longer_sets_the_status(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    frames: list[Frame] = []

    def hanging() -> Iterator[Step]:
        yield PICTURE
        clock.seconds += 100
        loop.abandon()
        loop.restarted().run(frames.append, Watch())
        yield LOST

    source = FakeSource(hanging(), [PICTURE, None])
    reader = source.open()
    readers = iter([reader, FakeReader([PICTURE, None])])
    source.open = lambda: next(readers)  # type: ignore[method-assign]
    loop = loop_of(source, clock)
    loop.run(frames.append, Watch())
    assert loop.status.state is SourceState.RUNNING
    assert [frame.is_blank for frame in frames] == [False, True, False]
    assert logged(caplog) == []


def test_ended_loop_no_longer_listens_to_the_pause(clock: FakeClock) -> None:
    pause = Pause()
    loop_of(FakeSource([PICTURE, None]), clock, pause=pause).run([].append, Watch())
    assert pause._observers == ()
