"""The summary: what it counts, the page and the chart."""

import base64
import dataclasses
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import pytest
from builders import EPOCH, event, face, frame, probabilities, result
from conftest import Program
from drawing import draw_scene
from output.media import make_video

from edge_daemon.output import visits
from edge_daemon.output.chart import (
    COLOURS,
    MAX_ROWS,
    PNG_SCALE,
    EmbeddedImage,
    Rectangle,
    Text,
    chart,
    duration_text,
    key_figures,
)
from edge_daemon.output.summary import SummaryOutput, page
from edge_daemon.output.visits import Collector, Statistics
from edge_daemon.records import Event, EventKind, FaceEmotion, FrameResult, Probabilities

HAPPY, SAD = probabilities(happy=0.9), probabilities(sad=0.8)


def appeared(track_id: int) -> tuple[Event, ...]:
    return (dataclasses.replace(event(EventKind.APPEARED), event_id=uuid4(), track_id=track_id),)


def frame_result(
    at: float, answers: dict[int, Probabilities | None], *, appears: Sequence[int] = ()
) -> FrameResult:
    """The result of a video's frame."""
    made = result(at, answers)
    events = tuple(item for track_id in appears for item in appeared(track_id))
    still = dataclasses.replace(made.frame, position_s=at)
    return dataclasses.replace(made, frame=still, events=events)


def statistics_of(*results: FrameResult, has_thumbnails: bool = False) -> Statistics:
    collector = Collector("clip.mp4", has_thumbnails=has_thumbnails)
    for item in results:
        collector.add(item)
    return collector.statistics()


def two_visits() -> Statistics:
    """Face 1: happy for 2 s, then sad for 2 s; face 2: happy for 1 s."""
    return statistics_of(
        *(
            frame_result(
                0.5 * step,
                {1: HAPPY if step < 4 else SAD} | ({2: HAPPY} if 2 <= step < 4 else {}),
                appears=[1, 2] if step == 2 else [],
            )
            for step in range(8)
        )
    )


def test_statistics_of_a_video_count_time_and_visits() -> None:
    statistics = two_visits()
    assert (statistics.frames, statistics.frames_with_faces) == (8, 8)
    assert statistics.duration == pytest.approx(4)
    first, second = statistics.visits
    assert [(s.start, s.end, s.label) for s in first.segments] == [(0, 2, "happy"), (2, 4, "sad")]
    assert [(s.start, s.end, s.label) for s in second.segments] == [(1, 2, "happy")]
    assert statistics.shares["happy"] == pytest.approx(3 / 5)
    assert statistics.shares["sad"] == pytest.approx(2 / 5)
    assert sum(statistics.shares.values()) == pytest.approx(1)


def test_statistics_leave_out_faces_that_never_appeared() -> None:
    statistics = statistics_of(
        frame_result(0.0, {1: HAPPY, 2: SAD}, appears=[1]), frame_result(0.5, {1: HAPPY})
    )
    assert [visit.track_id for visit in statistics.visits] == [1]
    assert statistics.brief == 1
    assert statistics.shares["sad"] == 0


def test_statistics_name_uncertain_and_unscored_faces() -> None:
    doubtful = FaceEmotion(1, face(), SAD, SAD, uncertain=True, members=1)
    made = frame_result(0.0, {1: None}, appears=[1])
    statistics = statistics_of(
        made,
        dataclasses.replace(
            made, frame=dataclasses.replace(made.frame, position_s=0.5), faces=(doubtful,)
        ),
    )
    assert [s.label for s in statistics.visits[0].segments] == ["not scored", "uncertain"]


def test_statistics_of_a_gap_count_one_second() -> None:
    statistics = statistics_of(
        frame_result(0.0, {1: HAPPY}, appears=[1]), frame_result(60.0, {1: HAPPY})
    )
    assert [(s.start, s.end) for s in statistics.visits[0].segments] == [(0, 1), (60, 61)]


def test_statistics_of_images_count_faces() -> None:
    def of_image(number: int, answers: dict[int, Probabilities | None]) -> FrameResult:
        made = result(float(number), answers)
        return dataclasses.replace(
            made, frame=dataclasses.replace(made.frame, file=f"{number}.jpg")
        )

    statistics = statistics_of(
        of_image(0, {1: HAPPY, 2: SAD}), of_image(1, {}), of_image(2, {3: HAPPY})
    )
    assert statistics.is_images
    assert (statistics.frames, statistics.frames_with_faces) == (3, 2)
    assert [visit.file for visit in statistics.visits] == ["0.jpg", "0.jpg", "2.jpg"]
    assert statistics.shares["happy"] == pytest.approx(2 / 3)


def test_statistics_of_a_camera_start_at_zero() -> None:
    made = [result(at, {1: HAPPY}) for at in (100.0, 100.5)]
    statistics = statistics_of(*made)
    assert statistics.duration == pytest.approx(1)
    assert statistics.started_at == made[0].frame.captured_at > EPOCH


def test_statistics_without_results_are_empty() -> None:
    statistics = statistics_of()
    assert (statistics.frames, list(statistics.visits)) == (0, [])
    assert page(statistics)


def test_collector_of_a_long_run_keeps_totals_and_bounds_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(visits, "MAX_SEGMENTS", 200)
    collector = Collector("camera", has_thumbnails=False)
    for number in range(500):
        answer: dict[int, Probabilities | None] = {number // 50: (HAPPY, SAD)[number % 2]}
        starts = [number // 50] if number % 50 == 0 else []
        collector.add(frame_result(0.5 * number, answer, appears=starts))
    statistics = collector.statistics()
    assert 50 < sum(len(visit.segments) for visit in statistics.visits) <= 200
    assert [visit.duration for visit in statistics.visits] == pytest.approx([25] * 10)
    assert statistics.shares["happy"] == pytest.approx(0.5)
    assert statistics.visits[0].shares == pytest.approx({"happy": 0.5, "sad": 0.5})


def test_collector_of_many_visits_keeps_totals_and_bounds_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(visits, "MAX_VISITS", 20)
    collector = Collector("camera", has_thumbnails=False)
    for number in range(300):
        is_brief = number % 3 == 2
        collector.add(
            frame_result(0.5 * number, {number: HAPPY}, appears=[] if is_brief else [number])
        )
    statistics = collector.statistics()
    assert statistics.brief == 100
    assert len(statistics.visits) <= 20
    assert statistics.visits[-1].track_id == 298
    assert statistics.totals.visits == 200
    assert statistics.totals.seconds == pytest.approx({"happy": 100})
    assert dict(key_figures(statistics))["visits"] == "200"
    assert f"{statistics.earlier.visits} earlier" in page(statistics)


def test_thumbnail_is_the_largest_view_of_the_face() -> None:
    def view(at: float, side: int) -> FrameResult:
        still = dataclasses.replace(
            frame(bgr=draw_scene((20, 20, side)), at=at), position_s=at, file=None
        )
        seen = FaceEmotion(1, face(20, 20, side), HAPPY, HAPPY, uncertain=False, members=1)
        return FrameResult(still, (seen,), frozenset({1}), appeared(1))

    statistics = statistics_of(view(0, 60), view(1, 180), view(2, 90), has_thumbnails=True)
    (visit,) = statistics.visits
    assert visit.thumbnail_area == 180 * 180
    assert visit.thumbnail is not None
    thumbnail = cv2.imdecode(np.frombuffer(visit.thumbnail, np.uint8), cv2.IMREAD_COLOR)
    assert thumbnail is not None
    assert max(thumbnail.shape[:2]) == 96


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "0:10"), (61.2, "1:01"), (3661, "1:01:01")],
)
def test_duration_text_is_readable(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_chart_bars_are_as_long_as_shares_and_visits() -> None:
    drawing = chart(two_visits())
    bars = [shape for shape in drawing.shapes if isinstance(shape, Rectangle)]
    happy = [bar for bar in bars if bar.fill == COLOURS["happy"]]
    sad = [bar for bar in bars if bar.fill == COLOURS["sad"]]
    assert happy[0].width / sad[0].width == pytest.approx(3 / 2)
    on_timeline = [bar for bar in happy if bar.title]
    assert [round(bar.width / on_timeline[1].width) for bar in on_timeline] == [2, 1]
    texts = [shape.text for shape in drawing.shapes if isinstance(shape, Text)]
    assert {"clip.mp4", "face 1", "face 2", "60.0 %", "40.0 %"} <= set(texts)


def test_chart_of_many_visits_shows_the_longest() -> None:
    crowd: dict[int, Probabilities | None] = dict.fromkeys(range(1, MAX_ROWS + 4), HAPPY)
    lasting = {track_id: answer for track_id, answer in crowd.items() if track_id > 3}
    drawing = chart(
        statistics_of(frame_result(0.0, crowd, appears=list(crowd)), frame_result(0.5, lasting))
    )
    texts = {shape.text for shape in drawing.shapes if isinstance(shape, Text)}
    assert "face 1" not in texts
    assert {"face 4", "and 3 shorter visits"} <= texts


def test_chart_of_a_month_has_few_marks() -> None:
    day_s = 86_400.0
    results = (frame_result(day_s * day, {1: HAPPY}, appears=[1]) for day in range(31))
    labels = [
        shape.text
        for shape in chart(statistics_of(*results)).shapes
        if isinstance(shape, Text) and shape.anchor == "middle"
    ]
    assert labels == [f"{hours}:00:00" if hours else "0:00" for hours in range(0, 721, 96)]


def test_chart_shapes_are_on_the_drawing_and_do_not_overlap() -> None:
    drawing = chart(two_visits())
    lines = sorted({shape.y for shape in drawing.shapes if isinstance(shape, Text)})
    assert min(np.diff(lines)) >= 14
    for shape in drawing.shapes:
        assert 0 <= shape.x <= drawing.width
        assert 0 <= shape.y <= drawing.height
        if isinstance(shape, Rectangle):
            assert shape.x + shape.width <= drawing.width
    assert not any(isinstance(shape, EmbeddedImage) for shape in drawing.shapes)


class Words(HTMLParser):
    """The texts of a page, its tags, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_page_has_the_visits_and_no_external_parts() -> None:
    words = Words(page(two_visits()))
    assert words.references == []
    assert "script" not in words.tags
    assert words.tags.count("tr") == 1 + 2
    assert "happy 50 %, sad 50 %" in words.texts


def test_page_of_a_hostile_name_is_escaped() -> None:
    hostile = "<script>alert(1)</script>&.mp4"
    text = page(dataclasses.replace(two_visits(), source=hostile))
    assert "<script" not in text
    assert hostile in Words(text).texts


def test_png_is_the_same_drawing() -> None:
    statistics = two_visits()
    drawing = chart(statistics)
    image = cv2.imdecode(np.frombuffer(drawing.as_png(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[:2] == (round(PNG_SCALE * drawing.height), PNG_SCALE * drawing.width)
    for shape in drawing.shapes:
        if isinstance(shape, Rectangle) and shape.title:
            middle = shape.x + shape.width / 2, shape.y + shape.height / 2
            x, y = (round(PNG_SCALE * value) for value in middle)
            red, green, blue = bytes.fromhex(shape.fill[1:])
            assert image[y, x].tolist() == [blue, green, red]


def test_summary_output_writes_both_files(tmp_path: Path) -> None:
    paths = [tmp_path / "s.html", tmp_path / "s.png"]
    output = SummaryOutput(paths, "clip.mp4", has_thumbnails=False)
    output.write(frame_result(0.0, {1: HAPPY}, appears=[1]))
    output.close()
    assert sorted(tmp_path.iterdir()) == paths


@pytest.mark.parametrize("thumbnails", [False, True])
def test_run_with_a_summary_shows_faces_only_if_asked(
    program: Program, tmp_path: Path, *, thumbnails: bool
) -> None:
    video = make_video(tmp_path / "face.mp4", frames=30)
    words = ["--summary", tmp_path / "s.html", *(["--summary-thumbnails"] if thumbnails else [])]
    done = program("run", video, "--detector", "haar", *words)
    assert (done.returncode, done.stdout) == (0, "")
    text = (tmp_path / "s.html").read_text()
    jpegs = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", text)
    assert bool(jpegs) == thumbnails
    for jpeg in jpegs:
        thumbnail = cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR)
        assert thumbnail is not None
    assert "face.mp4" in text


def ended(last: FrameResult) -> FrameResult:
    """The blank frame at the end of a file, in which all faces have left."""
    blank = dataclasses.replace(last.frame, is_blank=True, position_s=None, file=None)
    return FrameResult(blank, (), frozenset())


def test_statistics_of_an_ended_video_count_its_last_frame() -> None:
    results = [frame_result(0.5 * step, {1: HAPPY}, appears=[1]) for step in range(4)]
    statistics = statistics_of(*results, ended(results[-1]))
    assert (statistics.frames, statistics.duration) == (4, pytest.approx(2))
    assert statistics.visits[0].duration == pytest.approx(2)


def test_statistics_of_an_ended_image_count_its_face() -> None:
    made = result(0.0, {1: HAPPY})
    image = dataclasses.replace(made, frame=dataclasses.replace(made.frame, file="a.jpg"))
    statistics = statistics_of(image, ended(image))
    assert (statistics.frames, len(statistics.visits)) == (1, 1)
    assert statistics.shares["happy"] == 1
