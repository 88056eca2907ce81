"""The preview, `watch` and the summary count the time of faces by the same rules."""

import dataclasses

import pytest
from builders import event, probabilities, result
from conftest import FakeClock
from payloads import BASE, message

from edge_daemon.commands.watch.consumer import Consumer
from edge_daemon.output.visits import Collector
from edge_daemon.preview.history import History
from edge_daemon.records import FrameResult
from edge_daemon.schema import faces_payload

HAPPY, SAD = probabilities(happy=0.7), probabilities(sad=0.7)
TRACK = event().track_id


def face_results() -> list[FrameResult]:
    """A face: happy for 0.5 s, uncertain for 0.5 s, not scored for 1 of 5 s, then sad for 1 s."""
    answers = {0.0: HAPPY, 0.25: HAPPY, 0.5: SAD, 0.75: SAD, 1.0: None, 6.0: SAD, 6.5: SAD}
    results = [result(at, {TRACK: answer}) for at, answer in answers.items()]
    results[0] = dataclasses.replace(results[0], events=(event(),))
    for number in (2, 3):
        (face,) = results[number].faces
        doubtful = dataclasses.replace(face, uncertain=True)
        results[number] = dataclasses.replace(results[number], faces=(doubtful,))
    return results


def test_preview_watch_and_summary_count_the_same_seconds(clock: FakeClock) -> None:
    history, collector = History(clock), Collector("camera", has_thumbnails=False)
    consumer = Consumer(BASE, lambda _: None)
    for made in face_results():
        history.record(made)
        collector.add(made)
        now = made.frame.captured_monotonic_s
        consumer.take(message("hall", "faces", faces_payload(made, clock)), now)
    end = result(8.0, {})
    history.record(dataclasses.replace(end, frame=dataclasses.replace(end.frame, is_blank=True)))
    consumer.take(message("hall", "availability", b"offline"), end.frame.captured_monotonic_s)
    expected = {"happy": 0.5, "uncertain": 0.5, "not scored": 1.0, "sad": 1.0}
    assert collector.statistics().totals.seconds == pytest.approx(expected)
    for seconds in (history.totals().face_seconds, consumer.totals.face_seconds):
        assert {label: s for label, s in seconds.items() if s} == pytest.approx(expected)
