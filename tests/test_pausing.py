"""Pauses and source losses in a whole pipeline with one face."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import FakeClock
from drawing import draw_scene
from running import PATIENCE, STOP_LIMIT_WITH_WAITS, eventually

from edge_daemon import EmotionEnsemble
from edge_daemon._lib.clock import Clock, SystemClock
from edge_daemon.capture import CapturedFrame, SourceKind
from edge_daemon.capture.loop import CaptureLoop
from edge_daemon.capture.status import Pause, SourceStatus
from edge_daemon.config.settings import EventSettings, QualitySettings, TrackingSettings
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.step import FaceFinder
from edge_daemon.errors import SourceLost
from edge_daemon.inference.step import EmotionRecognizer
from edge_daemon.pipeline import SUPERVISION_INTERVAL_S, Chain, Pipeline, Stage, compose
from edge_daemon.records import EventKind, FrameResult, SourceState
from edge_daemon.tracking.events import EventMaker
from edge_daemon.tracking.tracker import Tracker

PICTURE = CapturedFrame(draw_scene((60, 60, 120)))
SMALLER = CapturedFrame(draw_scene(size=(160, 120)))
AT_ONCE = EventSettings(appear_after=0, margin=0.1, dwell=0)
ALL_GOOD = QualitySettings(min_face=0, min_sharpness=0, max_yaw=10)

STALL_S = 2.0
"""Time limit on a read that only a hang exceeds, also on a busy machine."""

MAX_AGE_S = 2.0
"""Time that a face survives without a frame, longer than between two frames on a busy machine."""

APPEARED, LEFT = EventKind.APPEARED, EventKind.LEFT
STARTING, RUNNING, LOST, PAUSED = SourceState


class FakeCamera:
    """A live source that shows one face; it can hang, go away and come back."""

    name = "fake camera"
    kind = SourceKind.CAMERA
    is_live = True

    def __init__(self) -> None:
        self.there = True
        self.picture = PICTURE
        self.opened = 0
        self.is_open = False
        self.hangs = threading.Event()
        self.answers = threading.Event()
        self.answers.set()

    def open(self) -> "FakeCamera":
        if not self.there:
            raise SourceLost("fake camera: not there")
        self.opened += 1
        self.is_open = True
        return self

    def read(self) -> CapturedFrame:
        while not self.answers.is_set():
            self.hangs.set()
            assert self.answers.wait(PATIENCE)
        if not self.there:
            raise SourceLost("fake camera: gone")
        return self.picture

    def close(self) -> None:
        self.is_open = False

    def hang(self) -> None:
        """Returns when a read hangs."""
        self.hangs.clear()
        self.answers.clear()
        assert self.hangs.wait(PATIENCE)


class ObservedStatus(SourceStatus):
    """A status that reports each change of its state."""

    def __init__(self, source: str, clock: Clock) -> None:
        self.observer: Callable[[], None] = lambda: None
        super().__init__(source, clock)

    def __setattr__(self, name: str, value: object) -> None:
        is_change = name == "state" and getattr(self, name, value) != value
        super().__setattr__(name, value)
        if is_change:
            self.observer()


class Running:
    """A pipeline in a thread, with its results and the states of its source."""

    def __init__(
        self,
        camera: FakeCamera,
        ensemble: EmotionEnsemble,
        *,
        pause: Pause | None = None,
        max_age: float = 60.0,
        fps: float = 50.0,
        read_timeout: float = PATIENCE,
        clock: Clock | None = None,
    ) -> None:
        self.camera = camera
        self.pause = pause or Pause()
        self.results: list[FrameResult] = []
        self._news = threading.Condition()
        loop = CaptureLoop(camera, clock or SystemClock(), fps, self.pause, max_age)
        self.status = loop.status
        self.states = [loop.status.state]
        assert isinstance(loop.status, ObservedStatus)
        loop.status.observer = self._note_state
        finder = FaceFinder(HaarDetector(24), 640, ALL_GOOD)
        tracker = Tracker(TrackingSettings(max_age=max_age))
        self.pipeline = Pipeline(
            loop,
            Chain.of(Stage("detection", compose(finder, tracker)))
            .then(Stage("inference", EmotionRecognizer(ensemble)))
            .then(Stage("keeping", compose(EventMaker(AT_ONCE), self._keep))),
            read_timeout_s=read_timeout,
            clock=clock,
        )
        self.ended: Future[None] = Future()

    def wait_until(self, fulfilled: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(fulfilled, PATIENCE), (self.states, self.events())

    def wait_for_state(self, state: SourceState) -> None:
        self.wait_until(lambda: self.status.state is state)

    def wait_for_event(self, kind: EventKind, count: int = 1) -> None:
        self.wait_until(lambda: [event[0] for event in self.events()].count(kind) == count)

    def events(self) -> list[tuple[EventKind, int]]:
        return [(event.kind, event.track_id) for it in self.results for event in it.events]

    def stop(self) -> float:
        """Stop the pipeline; return the duration in seconds."""
        began = time.monotonic()
        self.pipeline.stop()
        self.ended.result(PATIENCE)
        return time.monotonic() - began

    def _keep(self, result: FrameResult) -> None:
        with self._news:
            self.results.append(result)
            self._news.notify_all()

    def _note_state(self) -> None:
        with self._news:
            self.states.append(self.status.state)
            self._news.notify_all()


@pytest.fixture
def camera() -> Iterator[FakeCamera]:
    made = FakeCamera()
    yield made
    made.answers.set()


@pytest.fixture(scope="module")
def ensemble() -> EmotionEnsemble:
    return EmotionEnsemble.load()


@pytest.fixture(autouse=True)
def observed_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_daemon.capture.loop.SourceStatus", ObservedStatus)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    def delays() -> Iterator[float]:
        while True:
            yield 0.02

    monkeypatch.setattr("edge_daemon.capture.loop.backoff_delays", delays)


@contextmanager
def started(running: Running) -> Iterator[Running]:
    with ThreadPoolExecutor(1) as executor:
        running.ended = executor.submit(running.pipeline.run)
        try:
            yield running
        finally:
            running.stop()
    assert not running.camera.is_open


def test_pause_ends_the_visit_and_resume_starts_a_new_one(
    camera: FakeCamera, ensemble: EmotionEnsemble
) -> None:
    with started(Running(camera, ensemble)) as running:
        running.wait_for_event(APPEARED)
        running.pause.set(True)
        running.wait_for_event(LEFT)
        assert not camera.is_open
        assert running.results[-1].faces == ()
        assert running.results[-1].frame.is_blank
        running.pause.set(False)
        running.wait_for_event(APPEARED, 2)
    assert running.events() == [(APPEARED, 1), (LEFT, 1), (APPEARED, 2)]
    assert running.states == [STARTING, RUNNING, PAUSED, STARTING, RUNNING]
    assert camera.opened == 2


def test_pause_gives_no_results(camera: FakeCamera, ensemble: EmotionEnsemble) -> None:
    with started(Running(camera, ensemble)) as running:
        running.wait_for_event(APPEARED)
        running.pause.set(True)
        running.wait_for_event(LEFT)
        count = len(running.results)
        wait([running.ended], 0.5)
        assert len(running.results) == count
    assert sum(result.frame.is_blank for result in running.results) == 1
    assert camera.opened == 1


def test_pause_during_a_read_discards_its_image(
    camera: FakeCamera, ensemble: EmotionEnsemble
) -> None:
    with started(Running(camera, ensemble)) as running:
        running.wait_for_event(APPEARED)
        camera.hang()
        camera.picture = SMALLER
        running.pause.set(True)
        assert camera.is_open
        camera.answers.set()
        running.wait_for_event(LEFT)
        assert not camera.is_open
    assert {result.frame.width for result in running.results} == {PICTURE.bgr.shape[1]}


def test_pause_closes_a_slow_camera_immediately(
    camera: FakeCamera, ensemble: EmotionEnsemble
) -> None:
    with started(Running(camera, ensemble, fps=0.001)) as running:
        running.wait_for_event(APPEARED)
        began = time.monotonic()
        running.pause.set(True)
        running.wait_for_event(LEFT)
        assert time.monotonic() - began < 5


def test_saved_pause_keeps_the_camera_closed_from_the_start(
    tmp_path: Path, camera: FakeCamera, ensemble: EmotionEnsemble
) -> None:
    Pause(tmp_path / "paused").set(True)
    with started(Running(camera, ensemble, pause=Pause(tmp_path / "paused"))) as running:
        running.wait_for_state(PAUSED)
        assert camera.opened == 0
        running.pause.set(False)
        running.wait_for_event(APPEARED)
    assert running.states == [PAUSED, STARTING, RUNNING]
    assert not any(result.frame.is_blank for result in running.results)


def test_long_pause_is_no_stalled_capture(camera: FakeCamera, ensemble: EmotionEnsemble) -> None:
    clock = FakeClock()
    with started(Running(camera, ensemble, read_timeout=1.0, clock=clock)) as running:
        running.wait_for_event(APPEARED)
        running.pause.set(True)
        running.wait_for_event(LEFT)
        # The last stage is still busy with the event when that comes.
        eventually(lambda: running.pipeline.finished == len(running.results))
        clock.seconds += 1e6
        assert not running.pipeline._capture.is_stuck
        wait([running.ended], 2 * SUPERVISION_INTERVAL_S)
        assert running.pipeline._stalled == []
        running.pause.set(False)
        running.wait_for_event(APPEARED, 2)


def test_pause_during_a_stalled_read_opens_no_camera(
    camera: FakeCamera, ensemble: EmotionEnsemble
) -> None:
    with started(Running(camera, ensemble, read_timeout=STALL_S)) as running:
        running.wait_for_event(APPEARED)
        camera.hang()
        running.pause.set(True)
        running.wait_for_state(LOST)
        running.wait_for_event(LEFT)
        assert camera.is_open
        assert running.status.state is LOST
        camera.answers.set()
        running.wait_for_state(PAUSED)
        assert not camera.is_open
        assert camera.opened == 1
        running.pause.set(False)
        running.wait_for_event(APPEARED, 2)
        assert camera.opened == 2
    assert running.states == [STARTING, RUNNING, LOST, PAUSED, STARTING, RUNNING]


def test_stop_during_pause_is_quick(camera: FakeCamera, ensemble: EmotionEnsemble) -> None:
    with started(Running(camera, ensemble)) as running:
        running.pause.set(True)
        running.wait_for_state(PAUSED)
        assert running.stop() < STOP_LIMIT_WITH_WAITS
        assert running.pipeline.running_threads() == []


def test_pause_of_a_lost_camera_stops_the_attempts(
    camera: FakeCamera, ensemble: EmotionEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.capture.loop.backoff_delays", lambda: iter([PATIENCE] * 9))
    camera.there = False
    with started(Running(camera, ensemble)) as running:
        running.wait_for_state(LOST)
        running.pause.set(True)
        running.wait_for_state(PAUSED)
        camera.there = True
        running.pause.set(False)
        running.wait_for_state(RUNNING)
    assert running.states == [STARTING, LOST, PAUSED, STARTING, RUNNING]


def test_lost_camera_face_leaves_after_max_age(
    camera: FakeCamera, ensemble: EmotionEnsemble
) -> None:
    with started(Running(camera, ensemble, max_age=MAX_AGE_S)) as running:
        running.wait_for_event(APPEARED)
        camera.there = False
        running.wait_for_event(LEFT)
        assert running.status.state is LOST
        seen, last = running.results[-2:]
        seconds = last.frame.captured_monotonic_s - seen.frame.captured_monotonic_s
        assert MAX_AGE_S <= seconds < PATIENCE / 3
        camera.there = True
        running.wait_for_event(APPEARED, 2)
        running.wait_for_state(RUNNING)
    assert running.states == [STARTING, RUNNING, LOST, RUNNING]


def test_lost_camera_face_leaves_before_the_next_attempt(
    camera: FakeCamera, ensemble: EmotionEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_daemon.capture.loop.backoff_delays", lambda: iter([PATIENCE] * 9))
    with started(Running(camera, ensemble, max_age=MAX_AGE_S)) as running:
        running.wait_for_event(APPEARED)
        camera.there = False
        began = time.monotonic()
        running.wait_for_event(LEFT)
        assert time.monotonic() - began < PATIENCE / 3


def test_lost_camera_briefly_keeps_the_face(camera: FakeCamera, ensemble: EmotionEnsemble) -> None:
    with started(Running(camera, ensemble)) as running:
        running.wait_for_event(APPEARED)
        camera.there = False
        running.wait_for_state(LOST)
        camera.there = True
        running.wait_for_state(RUNNING)
        count = len(running.results)
        running.wait_until(lambda: len(running.results) > count + 2)
        assert running.results[-1].faces[0].track_id == 1
    assert running.events() == [(APPEARED, 1)]


def test_stalled_camera_is_lost_until_the_next_frame(
    camera: FakeCamera, ensemble: EmotionEnsemble
) -> None:
    with started(Running(camera, ensemble, read_timeout=STALL_S)) as running:
        running.wait_for_event(APPEARED)
        camera.hang()
        running.wait_for_state(LOST)
        camera.answers.set()
        running.wait_for_state(RUNNING)
    assert running.states == [STARTING, RUNNING, LOST, RUNNING]
