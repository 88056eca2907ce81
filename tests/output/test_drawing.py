from pathlib import Path

import numpy as np
import pytest
from builders import probabilities
from numpy.typing import NDArray

from edge_daemon.errors import OutputError
from edge_daemon.output.drawing import (
    COLOURS,
    MIN_SIDE,
    Annotation,
    FrameAnnotator,
    annotate_image,
    write_image,
)
from edge_daemon.output.layout import Size
from edge_daemon.output.panel import BAR_WIDTH, draw_panel, draw_tag, panel_size
from edge_daemon.records import Box, Image

HAPPY = 3
GREY = 128
Pixels = NDArray[np.int64]


def mark(box: Box, note: str = "", track_id: int = 0, share: float = 0.6) -> Annotation:
    return Annotation(box, probabilities(happy=share), note, track_id)


def grey(width: int, height: int, level: int = GREY) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def annotated(bgr: Image, *annotations: Annotation) -> Pixels:
    """The copy, RGB."""
    return annotate_image(bgr, annotations)[:, :, ::-1].astype(np.int64)


def inside(pixels: Pixels, box: Box) -> Pixels:
    x, y, width, height = map(int, box)
    return pixels[y : y + height, x : x + width]


def luminance(rgb: Pixels) -> NDArray[np.float64]:
    """Relative luminance as WCAG defines it."""
    parts = rgb / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ (0.2126, 0.7152, 0.0722))


def test_large_picture_keeps_its_size() -> None:
    assert annotate_image(grey(1280, 720), []).shape == (720, 1280, 3)


def test_small_picture_is_enlarged() -> None:
    height, width, _ = annotate_image(grey(160, 90), []).shape
    assert width * height >= MIN_SIDE**2
    assert width / height == pytest.approx(16 / 9, rel=0.01)


def test_picture_keeps_its_colours() -> None:
    bgr = grey(1000, 800)
    bgr[:] = (10, 20, 200)
    assert (annotated(bgr) == (200, 20, 10)).all()


@pytest.mark.parametrize("scale", [1, 4])
def test_box_surrounds_the_face_and_covers_none_of_it(scale: int) -> None:
    box = Box(400 // scale, 300 // scale, 160 // scale, 200 // scale)
    drawn = annotated(grey(1200 // scale, 800 // scale), mark(box))
    factor = drawn.shape[1] / (1200 // scale)
    left, top, right, bottom = (
        round(factor * edge) for edge in (box.x, box.y, box.x + box.width, box.y + box.height)
    )
    along = slice(3, -3)  # corners are rounded to whole pixels
    for edge in (
        drawn[top - 2, left:right],
        drawn[top:bottom, left - 2],
        drawn[bottom + 1, left:right],
        drawn[top:bottom, right + 1],
    ):
        assert (edge[along] == COLOURS[0]).all()
    assert (drawn[top + 2 : bottom - 2, left + 2 : right - 2] == GREY).all()


def test_box_beyond_the_picture_ends_at_its_edge() -> None:
    drawn = annotated(grey(900, 800), mark(Box(-50, -40, 1000, 900)))
    assert drawn.shape[1] > 900
    assert (drawn[0, :900] == COLOURS[0]).all()
    assert (drawn[:800, 0] == COLOURS[0]).all()
    assert (drawn[400, 901] == COLOURS[0]).all()


def test_numbers_of_several_faces_are_outside_their_boxes() -> None:
    boxes = [Box(200 + 400 * number, 300, 120, 150) for number in range(2)]
    drawn = annotated(grey(1200, 800), *map(mark, boxes))
    for box, colour in zip(boxes, COLOURS, strict=False):
        assert (inside(drawn, box) == GREY).all()
        left = int(box.x)
        assert (drawn[295, left + 3 : left + 10] == colour).all()


def test_number_of_a_single_face_is_left_out() -> None:
    drawn = annotated(grey(1200, 800), mark(Box(200, 300, 120, 150)))
    assert (drawn[285:295, 203:210] == GREY).all()


@pytest.mark.parametrize("level", [0, GREY, 255])
def test_panel_is_readable_on_any_ground(level: int) -> None:
    panel = draw_panel(probabilities(happy=0.6), "", 12, COLOURS[0])
    drawn = annotated(grey(900, 700, level), mark(Box(100, 300, 100, 120)))
    changed = luminance(drawn[:, 240:][(drawn[:, 240:] != level).any(axis=2)])
    assert len(changed) >= 0.9 * panel.shape[0] * panel.shape[1]
    ground, ink = np.median(changed), np.quantile(changed, 0.98)
    assert (ink + 0.05) / (ground + 0.05) > 4.5


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_panel_bar_of_the_emotion_has_its_length(share: float) -> None:
    panel = draw_panel(probabilities(happy=share), "", 20, COLOURS[1])[..., :3].astype(np.int64)
    coloured = (np.abs(panel - COLOURS[1]).max(axis=2) < 8).sum(axis=1)
    assert coloured.max() == pytest.approx(share * BAR_WIDTH * 20, abs=2)
    middle = np.flatnonzero(coloured).mean() / len(panel)
    assert middle == pytest.approx((HAPPY + 0.5) / 7, abs=0.05)


def test_panel_without_probabilities_has_empty_bars() -> None:
    panel = draw_panel(None, "too small", 20, COLOURS[1])[20 * 3 :, :, :3].astype(np.int64)
    assert not (np.abs(panel - COLOURS[1]).max(axis=2) < 8).any()


def test_panel_note_adds_a_line() -> None:
    box = Box(100, 300, 100, 120)
    plain, noted = (annotated(grey(900, 700), mark(box, note)) for note in ("", "too blurred"))
    heights = [
        np.ptp(np.flatnonzero((p[:, 300:] != GREY).any(axis=(1, 2)))) for p in (plain, noted)
    ]
    letter = np.sqrt(900 * 700) / 36
    rows = panel_size(letter, titled=True).height - panel_size(letter, titled=False).height
    assert heights[1] - heights[0] == pytest.approx(rows, abs=2)


def coloured(label: Image) -> int:
    """The number of pixels in the face's colour."""
    return int((label[..., :3] == COLOURS[1]).all(axis=2).sum())


def test_tag_column_of_the_emotion_has_its_height() -> None:
    none, low, high = (
        coloured(draw_tag("", probabilities(happy=share), 20, COLOURS[1]))
        for share in (0.2, 0.5, 0.8)
    )
    assert high - low == pytest.approx(low - none, rel=0.1)
    assert low > none


@pytest.mark.parametrize("size", [Size(320, 240), Size(480, 270), Size(1280, 720)])
def test_frame_keeps_its_size_and_its_faces(size: Size) -> None:
    boxes = [Box(0.1 * size.width, 60, 60, 80), Box(0.6 * size.width, 70, 60, 80)]
    annotator = FrameAnnotator(size)
    marks = [mark(box, track_id=number) for number, box in enumerate(boxes, 1)]
    drawn = annotator.annotate(grey(*size), marks)
    assert drawn.shape == (size.height, size.width, 3)
    for box in boxes:
        assert (inside(drawn.astype(np.int64), box) == GREY).all()
    assert (drawn != GREY).any(axis=2).mean() > 0.02


def test_frame_without_faces_is_unchanged() -> None:
    bgr = grey(320, 240)
    assert (FrameAnnotator(Size(320, 240)).annotate(bgr, []) == GREY).all()


def test_frame_given_to_the_annotator_is_not_modified() -> None:
    bgr = grey(480, 270)
    FrameAnnotator(Size(480, 270)).annotate(bgr, [mark(Box(100, 100, 60, 80))])
    assert (bgr == GREY).all()


@pytest.mark.parametrize(("name", "width"), [("copy.webp", 16_384), ("copy.jpg", 65_501)])
def test_write_image_too_large_for_its_format_is_refused(
    tmp_path: Path, name: str, width: int
) -> None:
    with pytest.raises(OutputError, match=f"got {width}x2 pixels"):
        write_image(tmp_path / name, grey(width, 2))
    assert list(tmp_path.iterdir()) == []
