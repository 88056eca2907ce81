import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import pytest
from builders import EPOCH, face, probabilities, result
from conftest import FakeClock
from running import PATIENCE

from edge_daemon.publishing.state import StateKeeper, dominant_emotion
from edge_daemon.publishing.topics import Message
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
def test_emotion_of_all_is_that_of_the_mean_by_area(faces: list[FaceEmotion], emotion: str) -> None:
    assert dominant_emotion(tuple(faces), uncertain_below=0.4) == emotion


class Kept:
    """What was published, with when it was."""

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
    """Made short."""
    monkeypatch.setattr("edge_daemon.publishing.state.SHORTEST_INTERVAL", 0.2)
    return 0.2


@contextmanager
def telling(kept: Kept, paused: threading.Event, heartbeat: float = 60.0) -> Iterator[StateKeeper]:
    keeper = StateKeeper(
        "test/state", kept, 0.4, heartbeat=heartbeat, clock=FakeClock(), paused=paused.is_set
    )
    thread = threading.Thread(target=keeper.run, args=(nullcontext,), daemon=True)
    thread.start()
    yield keeper
    keeper.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_first_result_is_told_as_state_to_keep(kept: Kept, paused: threading.Event) -> None:
    with telling(kept, paused) as keeper:
        one = result(0.0, {1: HAPPY, 2: None})
        assert keeper(one) is one
        state = kept.wait_for(1)
    assert (state.faces, state.emotion, state.paused) == (2, "happy", False)
    assert state.time == state.since == EPOCH
    (message,) = kept.messages
    assert (message.topic, message.retain, message.qos) == ("test/state", True, 1)


def test_what_does_not_change_is_not_told_again(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with telling(kept, paused) as keeper:
        for step in range(10):
            keeper(result(step / 10, {1: HAPPY}))
            time.sleep(interval / 4)
        kept.wait_for(1)
    assert len(kept.messages) == 1


def test_since_is_when_the_emotion_began_however_many_faces_come_and_go(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with telling(kept, paused) as keeper:
        keeper(result(0.0, {1: HAPPY}))
        kept.wait_for(1)
        keeper(result(1.0, {1: SAD}))
        kept.wait_for(2)
        keeper(result(2.0, {1: SAD, 2: SAD}))
        state = kept.wait_for(3)
    assert (state.faces, state.emotion) == (2, "sad")
    assert state.since == EPOCH + timedelta(seconds=1)
    assert state.time == EPOCH + timedelta(seconds=2)


def test_changes_in_quick_succession_are_told_once_and_the_last_is_not_forgotten(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with telling(kept, paused) as keeper:
        keeper(result(0.0, {1: HAPPY}))
        kept.wait_for(1)
        for step, answer in enumerate([SAD, HAPPY, None, SAD], start=1):
            keeper(result(float(step), {1: answer}))
        assert kept.wait_for(2).emotion == "sad"
        time.sleep(2 * interval)
    assert len(kept.messages) == 2
    assert kept.times[1] - kept.times[0] >= 0.9 * interval


def test_state_is_told_now_and_then_as_long_as_results_come(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with telling(kept, paused, heartbeat=0.1) as keeper:
        for step in range(3):
            keeper(result(float(step), {1: HAPPY}))
            assert kept.wait_for(step + 1).time == EPOCH + timedelta(seconds=step)
        time.sleep(4 * interval)
    assert len(kept.messages) == 3, "told though there was no result"


def test_paused_source_is_told_and_beats_on(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with telling(kept, paused, heartbeat=0.1) as keeper:
        keeper(result(0.0, {1: HAPPY}))
        assert not kept.wait_for(1).paused
        paused.set()
        keeper.refresh()
        assert kept.wait_for(2).paused
        assert kept.wait_for(4).paused


def test_state_before_any_result_is_told_only_of_a_pause(
    kept: Kept, paused: threading.Event, interval: float
) -> None:
    with telling(kept, paused, heartbeat=0.05):
        time.sleep(2 * interval)
        assert kept.messages == []
        paused.set()
        state = kept.wait_for(1)
    assert (state.faces, state.emotion, state.paused) == (0, "none", True)
    assert state.since == FakeClock().now()
