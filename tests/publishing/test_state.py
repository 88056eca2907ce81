import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest
from builders import EPOCH, face, probabilities, result
from conftest import FakeClock
from running import PATIENCE

from edge_daemon.publishing.messages import Message
from edge_daemon.publishing.state import StateReporter, dominant_emotion, mean_probabilities
from edge_daemon.records import FaceEmotion, Probabilities
from edge_daemon.schema import StateMessage

HAPPY, SAD = probabilities(happy=0.9), probabilities(sad=0.9)


def seen(answer: Probabilities | None, side: float = 50.0) -> FaceEmotion:
    return FaceEmotion(1, face(side=side), answer, answer, uncertain=False, members=1)


@pytest.mark.parametrize(
    ("faces", "emotion"),
    [
        ([], "none"),
        ([seen(None)], "none"),
        ([seen(HAPPY)], "happy"),
        ([seen(HAPPY), seen(None, 200.0)], "happy"),
        ([seen(HAPPY, 50.0), seen(SAD, 60.0)], "sad"),
        ([seen(HAPPY, 60.0), seen(SAD, 50.0)], "happy"),
        ([seen(HAPPY), seen(HAPPY), seen(SAD, 60.0)], "happy"),  # 2 x 2500 against 3600
        ([seen(probabilities(happy=0.39))], "uncertain"),
        ([seen(HAPPY), seen(SAD), seen(probabilities(fear=0.9))], "uncertain"),
    ],
)
def test_dominant_emotion_is_mean_weighted_by_area(faces: list[FaceEmotion], emotion: str) -> None:
    assert dominant_emotion(mean_probabilities(tuple(faces)), uncertain_below=0.4) == emotion


class Kept:
    """Published messages with their times."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.times: list[float] = []
        self._arrived = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._arrived:
            self.messages.append(message)
            self.times.append(time.monotonic())
            self._arrived.notify_all()

    @property
    def states(self) -> list[StateMessage]:
        return [StateMessage.model_validate_json(message.payload) for message in self.messages]

    def wait_for(self, count: int) -> StateMessage:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, PATIENCE)
            return self.states[count - 1]


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def paused() -> threading.Event:
    return threading.Event()


@pytest.fixture
def interval(monkeypatch: pytest.MonkeyPatch) -> float:
    """A short interval between messages."""
    monkeypatch.setattr("edge_daemon.publishing.state.MIN_INTERVAL_S", 0.2)
    return 0.2


@pytest.fixture
def long_interval(monkeypatch: pytest.MonkeyPatch) -> float:
    """An interval between messages in which also a busy machine passes several results."""
    monkeypatch.setattr("edge_daemon.publishing.state.MIN_INTERVAL_S", 2.0)
    return 2.0


def reporter(
    kept: Kept,
    paused: threading.Event,
    heartbeat: float = 60.0,
    is_online: Callable[[], bool] = lambda: True,
) -> StateReporter:
    return StateReporter(
        "test/state",
        kept,
        0.4,
        heartbeat_s=heartbeat,
        clock=FakeClock(),
        is_closed=paused.is_set,
        is_online=is_online,
    )


@contextmanager
def reporting(
    kept: Kept,
    paused: threading.Event,
    heartbeat: float = 60.0,
    is_online: Callable[[], bool] = lambda: True,
) -> Iterator[StateReporter]:
    service = reporter(kept, paused, heartbeat, is_online)
    thread = threading.Thread(target=service.run, args=(nullcontext(),), daemon=True)
    thread.start()
    yield service
    service.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_state_first_result_is_published_retained(kept: Kept, paused: threading.Event) -> None:
    with reporting(kept, paused) as service:
        one = result(0.0, {1: HAPPY, 2: None})
        assert service(one) is one
        state = kept.wait_for(2)
    assert (state.faces, state.emotion, state.paused) == (2, "happy", False)
    assert state.probabilities is not None
    assert state.probabilities["happy"] == 0.9
    assert state.time == state.since == EPOCH
    message = kept.messages[1]
    assert (message.topic, message.retain, message.qos) == ("test/state", True, 1)


def test_state_unchanged_is_not_published_again(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with reporting(kept, paused) as service:
        for step in range(10):
            service(result(step / 10, {1: HAPPY}))
            time.sleep(interval / 4)
        kept.wait_for(2)
    assert len(kept.messages) == 2


def test_state_since_is_start_of_emotion(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with reporting(kept, paused) as service:
        service(result(0.0, {1: HAPPY}))
        kept.wait_for(2)
        service(result(1.0, {1: SAD}))
        kept.wait_for(3)
        service(result(2.0, {1: SAD, 2: SAD}))
        state = kept.wait_for(4)
    assert (state.faces, state.emotion) == (2, "sad")
    assert state.since == EPOCH + timedelta(seconds=1)
    assert state.time == EPOCH + timedelta(seconds=2)


def test_state_quick_changes_publish_the_last(
    kept: Kept, paused: threading.Event, long_interval: float
) -> None:
    with reporting(kept, paused) as service:
        service(result(0.0, {1: HAPPY}))
        kept.wait_for(2)
        for step, answer in enumerate([SAD, HAPPY, None, SAD], start=1):
            service(result(float(step), {1: answer}))
        assert kept.wait_for(3).emotion == "sad"
        time.sleep(0.5)
    assert len(kept.messages) == 3
    assert kept.times[2] - kept.times[1] >= 0.9 * long_interval


def test_state_heartbeat_continues_between_slow_results(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    online = threading.Event()
    online.set()
    with reporting(kept, paused, heartbeat=0.1, is_online=online.is_set) as service:
        service(result(0.0, {1: HAPPY}))
        assert kept.wait_for(4).time == EPOCH
        online.clear()
        time.sleep(2 * interval)
        count = len(kept.messages)
        time.sleep(4 * interval)
    assert len(kept.messages) == count


@pytest.mark.parametrize("jump", [timedelta(days=20_000), timedelta(hours=-5)])
def test_state_since_follows_the_wall_clock_that_is_set(
    kept: Kept, paused: threading.Event, interval: float, jump: timedelta
) -> None:
    with reporting(kept, paused) as service:
        service(result(0.0, {1: HAPPY}))
        kept.wait_for(2)
        later = result(60.0, {1: HAPPY, 2: HAPPY})
        frame = replace(later.frame, captured_at=later.frame.captured_at + jump)
        service(replace(later, frame=frame))
        state = kept.wait_for(3)
    assert state.time - state.since == timedelta(seconds=60)


def test_state_paused_is_published_with_heartbeat(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with reporting(kept, paused, heartbeat=0.1) as service:
        service(result(0.0, {1: HAPPY}))
        assert not kept.wait_for(2).paused
        paused.set()
        assert kept.wait_for(3).paused
        assert kept.wait_for(5).paused


def test_state_without_result_is_published_when_paused(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with reporting(kept, paused, heartbeat=0.05, is_online=paused.is_set):
        time.sleep(2 * interval)
        assert len(kept.messages) == 1
        paused.set()
        state = kept.wait_for(2)
    assert (state.faces, state.emotion, state.paused) == (0, "none", True)
    assert state.since == FakeClock().now()


@pytest.mark.parametrize("is_paused", [False, True])
def test_state_at_construction_has_no_faces(
    kept: Kept, paused: threading.Event, *, is_paused: bool
) -> None:
    if is_paused:
        paused.set()
    reporter(kept, paused)
    (state,) = kept.states
    assert (state.faces, state.emotion, state.paused) == (0, "none", is_paused)


@pytest.mark.parametrize("faces", [{1: HAPPY}, {1: None}, {}])
def test_state_finish_publishes_no_faces_at_once(
    kept: Kept, paused: threading.Event, faces: dict[int, Probabilities | None]
) -> None:
    stopped = reporter(kept, paused)
    stopped.stop()
    stopped(result(5.0, faces))
    stopped.finish()
    state = kept.states[-1]
    assert (state.faces, state.emotion, state.probabilities) == (0, "none", None)
    assert state.time == EPOCH + timedelta(seconds=5)
