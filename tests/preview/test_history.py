import dataclasses
import tracemalloc

import numpy as np
import pytest
from builders import frame, probabilities, result
from conftest import FakeClock
from drawing import draw_scene

from edge_daemon.preview.history import CAPACITY, Minute
from edge_daemon.records import FrameResult
from edge_daemon.schema import faces_payload


@pytest.fixture
def minute(clock: FakeClock) -> Minute:
    return Minute(clock)


def pictured(index: int = 0) -> FrameResult:
    """A result of track 5, with a picture of its own."""
    made = result(0.0, {5: probabilities(happy=0.7)})
    return dataclasses.replace(
        made, frame=frame(index=index, bgr=draw_scene((100, 100, 50)).copy())
    )


def test_step_passes_on_what_it_gets(minute: Minute) -> None:
    given = pictured()
    assert minute(given) is given


def test_only_the_last_minute_is_told(minute: Minute, clock: FakeClock) -> None:
    for index in range(100):
        minute(pictured(index))
        clock.seconds += 1
    assert [seen.result.frame.index for seen in minute.results()] == list(range(40, 100))
    clock.seconds += 61
    assert minute.results() == []


def test_latency_is_that_of_the_time_when_it_was_seen(minute: Minute, clock: FakeClock) -> None:
    clock.seconds += 0.25
    minute(pictured())
    clock.seconds += 10
    (seen,) = minute.results()
    assert seen.latency_ms == pytest.approx(250)


def test_result_is_told_as_it_is_published(minute: Minute, clock: FakeClock) -> None:
    given = pictured()
    minute(given)
    (seen,) = minute.results()
    assert faces_payload(seen.result, clock) == faces_payload(given, clock)


def test_nothing_is_kept_that_shows_anybody(minute: Minute) -> None:
    given = dataclasses.replace(
        pictured(), frame=dataclasses.replace(pictured().frame, reduced=np.ones((2, 2, 3)))
    )
    minute(given)
    (seen,) = minute.results()
    assert not seen.result.frame.bgr.any()
    assert seen.result.frame.bgr.base is not given.frame.bgr
    assert seen.result.frame.reduced is None
    assert [face.face.crop.size for face in seen.result.faces] == [0]


def test_memory_is_small_and_bounded(minute: Minute) -> None:
    tracemalloc.start()
    for index in range(CAPACITY):
        minute(pictured(index))
    full, _ = tracemalloc.get_traced_memory()
    for index in range(CAPACITY):
        minute(pictured(index))
    fuller, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(minute.results()) == CAPACITY
    assert full < CAPACITY * 6000
    assert fuller - full < 100_000
