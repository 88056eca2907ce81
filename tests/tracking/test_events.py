import dataclasses
import weakref
from datetime import timedelta

import pytest
from builders import EPOCH, probabilities, result

from edge_daemon.config.settings import EventSettings
from edge_daemon.records import Event, EventKind
from edge_daemon.tracking.events import EventMaker

HAPPY = probabilities(happy=0.7)
SAD = probabilities(sad=0.7)
NEARLY_SAD = probabilities(happy=0.42, sad=0.48)


@pytest.fixture
def maker() -> EventMaker:
    return EventMaker(EventSettings(appear_after=0.5, margin=0.1, dwell=0.6))


def play(maker: EventMaker, *answers: object, start: float = 0.0) -> list[Event]:
    """All events of one face with these probabilities, 0.1 s apart."""
    events: list[Event] = []
    for step, answer in enumerate(answers):
        events += maker(result(start + step / 10, {1: answer})).events  # type: ignore[dict-item]
    return events


def changes_of(events: list[Event]) -> list[tuple[EventKind, str | None, str | None]]:
    return [(event.kind, event.previous, event.emotion) for event in events]


def test_events_followed_face_appears_after_its_delay(maker: EventMaker) -> None:
    assert play(maker, *[HAPPY] * 5) == []
    (event,) = play(maker, *[HAPPY] * 9, start=0.5)
    assert changes_of([event]) == [(EventKind.APPEARED, None, "happy")]
    assert event.duration == pytest.approx(0.5)


def test_events_short_false_positive_makes_none(maker: EventMaker) -> None:
    play(maker, HAPPY, HAPPY)
    assert maker(result(5.0, {})).events == ()


def test_events_face_that_left_keeps_no_frame_in_memory(maker: EventMaker) -> None:
    first = result(0.0, {1: HAPPY})
    frame = weakref.ref(first.frame)
    maker(first)
    maker(dataclasses.replace(result(0.1, {}), live_tracks=frozenset({1})))
    del first
    assert frame() is None


def test_events_emotion_changes_after_the_dwell_time(maker: EventMaker) -> None:
    play(maker, *[HAPPY] * 10)
    assert play(maker, *[SAD] * 6, start=1.0) == []
    events = play(maker, *[SAD] * 10, start=1.6)
    assert changes_of(events) == [(EventKind.EMOTION_CHANGED, "happy", "sad")]
    assert events[0].duration == pytest.approx(1.6)


def test_events_flickering_emotion_makes_none(maker: EventMaker) -> None:
    play(maker, *[HAPPY] * 10)
    assert play(maker, *([SAD] * 5 + [HAPPY]) * 5, start=1.0) == []


def test_events_lead_within_the_margin_makes_none(maker: EventMaker) -> None:
    play(maker, *[HAPPY] * 10)
    assert play(maker, *[NEARLY_SAD] * 30, start=1.0) == []


def test_events_unscored_frames_keep_the_lead(maker: EventMaker) -> None:
    play(maker, *[HAPPY] * 10)
    events = play(maker, *([SAD] * 5 + [None]) * 2, start=1.0)
    assert changes_of(events) == [(EventKind.EMOTION_CHANGED, "happy", "sad")]


def test_events_unscored_time_is_no_part_of_the_dwell(maker: EventMaker) -> None:
    play(maker, *[HAPPY] * 10)
    # Each frame with a score counts for a tenth of a second, from the second one on.
    assert play(maker, *[SAD, None, None] * 6, start=1.0) == []
    events = play(maker, SAD, SAD, start=2.8)
    assert changes_of(events) == [(EventKind.EMOTION_CHANGED, "happy", "sad")]


@pytest.mark.parametrize("is_in_sight", [True, False])
def test_events_old_lead_starts_again(maker: EventMaker, *, is_in_sight: bool) -> None:
    play(maker, *[HAPPY] * 10)
    play(maker, *[SAD] * 6, start=1.0)
    for step in range(100):
        gone = result(1.6 + step / 10, {1: None} if is_in_sight else {}, live_tracks={1})
        assert maker(gone).events == ()
    assert play(maker, *[SAD] * 6, start=11.6) == []
    events = play(maker, SAD, SAD, start=12.2)
    assert changes_of(events) == [(EventKind.EMOTION_CHANGED, "happy", "sad")]


def test_events_rare_frames_all_count(maker: EventMaker) -> None:
    for at in range(0, 30, 10):
        maker(result(float(at), {1: HAPPY}))
    assert maker(result(30.0, {1: SAD})).events == ()
    events = maker(result(40.0, {1: SAD})).events
    assert changes_of(list(events)) == [(EventKind.EMOTION_CHANGED, "happy", "sad")]


def test_events_face_leaves_when_its_track_expires(maker: EventMaker) -> None:
    play(maker, *[HAPPY] * 10)
    assert maker(result(1.5, {}, live_tracks={1})).events == ()
    (event,) = maker(result(3.0, {})).events
    assert changes_of([event]) == [(EventKind.LEFT, None, "happy")]
    assert event.duration == pytest.approx(0.9)
    assert maker(result(3.1, {})).events == ()


def test_events_unscored_face_appears_without_emotion(maker: EventMaker) -> None:
    events = play(maker, *[None] * 8)
    assert changes_of(events) == [(EventKind.APPEARED, None, None)]


def test_events_first_emotion_is_a_change_from_none(maker: EventMaker) -> None:
    play(maker, *[None] * 8)
    assert changes_of(play(maker, SAD, start=0.8)) == [(EventKind.EMOTION_CHANGED, None, "sad")]


def test_event_has_the_mean_and_the_start_of_the_visit(maker: EventMaker) -> None:
    (event,) = play(maker, None, HAPPY, *[SAD] * 4)
    assert event.started == EPOCH
    assert event.at == EPOCH + timedelta(seconds=0.5)
    assert event.probabilities == pytest.approx((HAPPY + 4 * SAD) / 5)


def test_event_of_unscored_face_has_no_mean(maker: EventMaker) -> None:
    (event,) = play(maker, *[None] * 6)
    assert (event.emotion, event.probabilities) == (None, None)


def test_events_have_unique_ids(maker: EventMaker) -> None:
    events = play(maker, *[HAPPY] * 10, *[SAD] * 20)
    assert len({event.event_id for event in events}) == len(events) == 2


def test_event_times_agree_with_durations(maker: EventMaker) -> None:
    events = play(maker, *[HAPPY] * 7, *[SAD] * 20)
    assert len(events) == 2
    for event in events:
        assert event.at - event.started == timedelta(seconds=event.duration)
        assert event.started == EPOCH


def test_event_has_position_and_file_of_its_frame(maker: EventMaker) -> None:
    for step in range(7):
        made = result(step / 10, {1: HAPPY})
        video = dataclasses.replace(made.frame, position_s=60 + step / 10, file="a.jpg")
        events = maker(dataclasses.replace(made, frame=video)).events
    gone = maker(result(5.0, {}))
    assert [(event.position_s, event.file) for event in (*events, *gone.events)] == [
        (60.6, "a.jpg")
    ]


def test_finish_makes_every_present_face_leave(maker: EventMaker) -> None:
    play(maker, *[HAPPY] * 7)
    maker(result(0.7, {1: HAPPY, 2: SAD}))
    last = maker.finish()
    assert last is not None
    assert (last.faces, last.live_tracks) == ((), frozenset())
    assert (last.frame.index, last.frame.is_blank) == (1, True)
    assert [(event.kind, event.track_id) for event in last.events] == [(EventKind.LEFT, 1)]
    assert last.events[0].duration == pytest.approx(0.7)
    assert maker.finish() is None


def test_finish_without_faces_is_none(maker: EventMaker) -> None:
    assert maker.finish() is None
    maker(result(0.0, {}))
    assert maker.finish() is None
