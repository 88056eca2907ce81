import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from builders import EPOCH, event, face, probabilities
from conftest import FakeClock
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_daemon.records import (
    EMOTIONS,
    Box,
    Event,
    EventKind,
    FaceEmotion,
    Frame,
    FrameResult,
    Probabilities,
    Unscored,
)
from edge_daemon.schema import (
    FacesMessage,
    event_message,
    faces_payload,
    rounded,
    within,
)

no_deadline = hypothesis_settings(deadline=None)

HAPPY = probabilities(happy=0.7, neutral=0.2)


def frame(at: datetime = EPOCH) -> Frame:
    return Frame(17, 0, np.zeros((240, 320, 3), np.uint8), at, 1000.0, 0.0)


def seen(answer: Probabilities | None = HAPPY, unscored: Unscored | None = None) -> FaceEmotion:
    members = 0 if answer is None else 3
    return FaceEmotion(5, face(unscored=unscored), answer, answer, uncertain=False, members=members)


def message_of(result: FrameResult, clock: FakeClock) -> dict[str, object]:
    payload = faces_payload(result, clock)
    FacesMessage.model_validate_json(payload)
    return json.loads(payload)


def result(
    *faces: FaceEmotion, at: datetime = EPOCH, events: tuple[Event, ...] = ()
) -> FrameResult:
    return FrameResult(frame(at), faces, frozenset(), events)


distributions = (
    st.lists(st.floats(0, 1), min_size=7, max_size=7)
    .filter(any)
    .map(lambda parts: (np.array(parts) / sum(parts)).astype(np.float32))
)


@no_deadline
@given(distributions)
def test_rounded_probabilities_sum_to_exactly_1(values: Probabilities) -> None:
    shares = rounded(values)
    assert tuple(shares) == EMOTIONS
    assert sum(Decimal(str(value)) for value in shares.values()) == 1
    assert all(0 <= value <= 1 for value in shares.values())
    np.testing.assert_allclose(list(shares.values()), values, atol=1.01e-4)


@no_deadline
@given(distributions)
def test_emotion_has_the_maximum_probability(values: Probabilities) -> None:
    message = FacesMessage.model_validate_json(faces_payload(result(seen(values)), FakeClock()))
    (face_message,) = message.faces
    assert face_message.probabilities is not None
    assert face_message.probabilities[str(face_message.emotion)] == max(
        face_message.probabilities.values()
    )
    assert face_message.confidence == max(face_message.probabilities.values())


numbers = st.floats(-2000, 2000)


@no_deadline
@given(numbers, numbers, st.floats(0, 2000), st.floats(0, 2000))
def test_box_is_in_whole_pixels_within_the_image(
    x: float, y: float, width: float, height: float
) -> None:
    left, top, across, down = within(Box(x, y, width, height), 320, 240)
    assert 0 <= left <= left + across <= 320
    assert 0 <= top <= top + down <= 240
    assert all(isinstance(value, int) for value in (left, top, across, down))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(10.4, 20.6, 30.0, 40.0), (10, 21, 30, 40)),
        (Box(-10, -20, 30, 40), (0, 0, 20, 20)),
        (Box(300, 230, 50, 50), (300, 230, 20, 10)),
        (Box(-5, -5, 1000, 1000), (0, 0, 320, 240)),
        (Box(-50, -60, 20, 30), (0, 0, 0, 0)),
        (Box(400, 300, 20, 30), (320, 240, 0, 0)),
    ],
)
def test_box_is_clipped_to_the_image(box: Box, expected: tuple[int, ...]) -> None:
    assert within(box, 320, 240) == expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC), "2026-01-02T03:04:05.678Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 0, UTC), "2026-01-02T03:04:05.000Z"),
    ],
)
def test_time_is_utc_to_the_millisecond(clock: FakeClock, at: datetime, expected: str) -> None:
    assert message_of(result(at=at), clock)["time"] == expected
    left = event(EventKind.LEFT, at)
    (event_in_frame,) = message_of(result(events=(left,)), clock)["events"]
    assert event_in_frame["time"] == expected


def test_latency_is_the_time_since_the_capture(clock: FakeClock) -> None:
    clock.seconds = 1000.0 + 0.04321
    assert message_of(result(), clock)["latency_ms"] == 43.2


def test_frame_message_has_number_size_and_schema(clock: FakeClock) -> None:
    message = message_of(result(), clock)
    assert (message["schema"], message["frame"]) == (1, 17)
    assert (message["width"], message["height"]) == (320, 240)
    assert (message["faces"], message["events"]) == ([], [])


def test_message_of_a_reduced_image_is_in_its_own_pixels(clock: FakeClock) -> None:
    whole = result(seen())
    reduced = replace(whole, frame=replace(whole.frame, reduction=4))
    message = message_of(reduced, clock)
    assert (message["width"], message["height"]) == (1280, 960)
    assert message["faces"][0]["box"] == [400, 400, 200, 200]


def test_frame_message_replaces_bytes_that_are_not_utf8(clock: FakeClock) -> None:
    made = replace(frame(), file=os.fsdecode(b"caf\xe9.jpg"))
    message = message_of(FrameResult(made, (), frozenset()), clock)
    assert message["file"] == "caf\N{REPLACEMENT CHARACTER}.jpg"


def test_face_message_has_all_fields(clock: FakeClock) -> None:
    (face_message,) = message_of(result(seen()), clock)["faces"]
    assert face_message == {
        "track_id": 5,
        "box": [100, 100, 50, 50],
        "score": 0.9,
        "emotion": "happy",
        "confidence": 0.7,
        "uncertain": False,
        "probabilities": face_message["probabilities"],
        "members": 3,
        "unscored": None,
    }
    assert list(face_message["probabilities"]) == list(EMOTIONS)
    assert face_message["probabilities"]["neutral"] == 0.2


@pytest.mark.parametrize("why", list(Unscored))
def test_unscored_face_message_has_reason_and_no_emotion(clock: FakeClock, why: Unscored) -> None:
    (face_message,) = message_of(result(seen(None, why)), clock)["faces"]
    assert face_message["unscored"] == why.value
    assert [face_message[key] for key in ("emotion", "confidence", "probabilities")] == [None] * 3
    assert (face_message["members"], face_message["uncertain"]) == (0, False)
    assert face_message["box"] == [100, 100, 50, 50]


def test_event_in_frame_message_has_face_and_duration(clock: FakeClock) -> None:
    changed = event(EventKind.EMOTION_CHANGED, EPOCH + timedelta(seconds=3), "sad", "happy")
    (event_in_frame,) = message_of(result(seen(), events=(changed,)), clock)["events"]
    assert event_in_frame == {
        "event_id": "00000000-0000-0000-0000-000000000001",
        "kind": "emotion_changed",
        "track_id": 5,
        "time": "2026-01-01T00:00:03.000Z",
        "position": None,
        "file": None,
        "emotion": "sad",
        "previous": "happy",
        "started": "2026-01-01T00:00:01.000Z",
        "duration": 2.0,
        "probabilities": rounded(probabilities(sad=0.7)),
    }


def test_event_message_matches_its_frame_and_adds_the_sequence(clock: FakeClock) -> None:
    changed = event(EventKind.EMOTION_CHANGED, EPOCH + timedelta(seconds=3), "sad", "happy")
    (event_in_frame,) = message_of(result(seen(), events=(changed,)), clock)["events"]
    alone = json.loads(event_message(changed, 17, 12.345).model_dump_json(by_alias=True))
    assert alone == event_in_frame | {"schema": 1, "sequence": 17, "latency_ms": 12.3}


def test_message_of_one_face_is_one_line_below_1000_bytes(clock: FakeClock) -> None:
    payload = faces_payload(result(seen()), clock)
    assert len(payload) < 1000
    assert b"\n" not in payload


def test_message_with_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        FacesMessage.model_validate_json(
            b'{"time": "2026-01-01T00:00:00Z", "latency_ms": 0, "frame": 0, "width": 1, '
            b'"height": 1, "faces": [], "events": [], "name": "Ada"}'
        )


def test_face_message_with_unknown_emotion_is_refused(clock: FakeClock) -> None:
    message = message_of(result(seen()), clock)
    message["faces"][0]["emotion"] = "bored"
    with pytest.raises(ValidationError) as refused:
        FacesMessage.model_validate_json(json.dumps(message))
    assert [error["loc"] for error in refused.value.errors()] == [("faces", 0, "emotion")]
