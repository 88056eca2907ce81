import dataclasses
import tracemalloc

import numpy as np
import pytest
from builders import event, frame, probabilities, result
from conftest import FakeClock
from drawing import draw_scene

from edge_daemon._lib.clock import MAX_HOLD_S
from edge_daemon.preview.history import MAX_EVENTS, MAX_RESULTS, History
from edge_daemon.records import FACE_LABELS, EventKind, FrameResult
from edge_daemon.schema import faces_payload

SCENE = draw_scene((100, 100, 50))


@pytest.fixture
def history(clock: FakeClock) -> History:
    return History(clock)


def with_image(index: int = 0, at: float = 0.0) -> FrameResult:
    """A result of track 5, with an image of its own."""
    made = result(at, {5: probabilities(happy=0.7)})
    return dataclasses.replace(made, frame=frame(at, index=index, bgr=SCENE.copy()))


def test_results_cover_the_last_minute(history: History, clock: FakeClock) -> None:
    for index in range(100):
        history.record(with_image(index))
        clock.seconds += 1
    assert [past.result.frame.index for past in history.results()] == list(range(40, 100))
    clock.seconds += 61
    assert history.results() == []


def test_latency_is_measured_when_the_result_is_recorded(
    history: History, clock: FakeClock
) -> None:
    clock.seconds += 0.25
    history.record(with_image())
    clock.seconds += 10
    (past,) = history.results()
    assert past.latency_ms == pytest.approx(250)


def test_result_is_kept_as_it_is_published(history: History, clock: FakeClock) -> None:
    original = with_image()
    history.record(original)
    (past,) = history.results()
    assert faces_payload(past.result, clock) == faces_payload(original, clock)


def test_no_image_is_kept(history: History) -> None:
    original = with_image()
    reduced = dataclasses.replace(original.frame, reduced=np.ones((2, 2, 3), np.uint8))
    history.record(dataclasses.replace(original, frame=reduced))
    (past,) = history.results()
    assert not past.result.frame.bgr.any()
    assert past.result.frame.bgr.base is not original.frame.bgr
    assert past.result.frame.reduced is None
    assert [face.face.crop.size for face in past.result.faces] == [0]


def test_memory_is_bounded(history: History) -> None:
    tracemalloc.start()
    for index in range(MAX_RESULTS):
        history.record(with_image(index))
    full, _ = tracemalloc.get_traced_memory()
    for index in range(MAX_RESULTS):
        history.record(with_image(index))
    fuller, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(history.results()) == MAX_RESULTS
    assert full < MAX_RESULTS * 6000
    assert fuller - full < 100_000


def test_totals_sum_time_by_emotion_with_limited_gaps(history: History) -> None:
    for at in (0.0, 0.5, 1.0, 1.0 + 2 * MAX_HOLD_S):
        history.record(with_image(at=at))
    totals = history.totals()
    assert totals.face_seconds == dict.fromkeys(FACE_LABELS, 0.0) | {"happy": 1.0 + MAX_HOLD_S}
    assert totals.visits == 0


def test_totals_leave_out_the_gap_after_a_blank_frame(history: History) -> None:
    blank = FrameResult(dataclasses.replace(frame(0.5), is_blank=True), (), frozenset())
    for item in (with_image(at=0.0), blank, with_image(at=60.0), with_image(at=60.5)):
        history.record(item)
    assert history.totals().face_seconds["happy"] == 0.5


def test_events_are_kept_and_counted(history: History) -> None:
    kinds = (EventKind.APPEARED, EventKind.EMOTION_CHANGED, EventKind.LEFT)
    events = tuple(event(kind, number=number) for number, kind in enumerate(kinds, start=1))
    history.record(dataclasses.replace(with_image(), events=events))
    assert [each.kind for each in history.events()] == list(kinds)
    assert (history.event_count, history.totals().visits) == (3, 1)


def test_oldest_events_are_dropped(history: History) -> None:
    for number in range(MAX_EVENTS + 1):
        history.record(dataclasses.replace(with_image(), events=(event(number=number),)))
    assert (len(history.events()), history.event_count) == (MAX_EVENTS, MAX_EVENTS + 1)
    assert history.events()[0].event_id.int == 1
