import numpy as np
import pytest
from numpy.typing import NDArray

from edge_daemon.records import Box, Detection, Face, Image, Unscored
from emotion_trainer.annotation.drawing import COLOURS, LEAST_SIDE, draw
from emotion_trainer.annotation.panel import BAR_WIDTH, draw_panel, panel_size
from emotion_trainer.annotation.reading import Reading

HAPPY = 3
Pixels = NDArray[np.int64]


def reading(box: Box, share: float = 0.6, unscored: Unscored | None = None) -> Reading:
    probabilities = np.full(7, (1 - share) / 6, np.float32)
    probabilities[HAPPY] = share
    return Reading(Face(Detection(box, 0.9), np.zeros((48, 48), np.uint8), unscored), probabilities)


def grey(width: int, height: int, level: int = 128) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def pixels(bgr: Image, *readings: Reading) -> Pixels:
    return np.asarray(draw(bgr, readings), np.int64)


def luminance(rgb: Pixels) -> NDArray[np.float64]:
    """Relative luminance as WCAG defines it."""
    parts = rgb / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ (0.2126, 0.7152, 0.0722))


def test_large_pictures_keep_their_size_and_small_ones_are_enlarged() -> None:
    assert draw(grey(1280, 720), []).size == (1280, 720)
    width, height = draw(grey(160, 90), []).size
    assert width * height >= LEAST_SIDE**2
    assert width / height == pytest.approx(16 / 9, rel=0.01)


def test_colours_of_the_picture_are_kept() -> None:
    bgr = grey(1000, 800)
    bgr[:] = (10, 20, 200)
    assert (pixels(bgr) == (200, 20, 10)).all()


@pytest.mark.parametrize("scale", [1, 4])
def test_box_is_drawn_round_the_face_and_nothing_on_it(scale: int) -> None:
    box = Box(400 // scale, 300 // scale, 160 // scale, 200 // scale)
    drawn = pixels(grey(1200 // scale, 800 // scale), reading(box))
    factor = drawn.shape[1] / (1200 // scale)
    left, top, right, bottom = (
        round(factor * edge) for edge in (box.x, box.y, box.x + box.width, box.y + box.height)
    )
    within = slice(3, -3)  # corners are rounded to whole pixels
    for edge in (drawn[top, left:right], drawn[top:bottom, left], drawn[bottom - 2, left:right]):
        assert (edge[within] == COLOURS[0]).all()
    assert (drawn[top + 8 : bottom - 8, left + 8 : right - 8] == 128).all()


def test_box_of_a_face_beyond_the_edge_ends_at_the_edge() -> None:
    drawn = pixels(grey(900, 800), reading(Box(-50, -40, 1000, 900)))
    assert drawn.shape[1] > 900
    assert (drawn[0, :900] == COLOURS[0]).all()
    assert (drawn[:, 0] == COLOURS[0])[:800].all()
    assert (drawn[400, 899] == COLOURS[0]).all()


def test_several_faces_have_colours_and_numbers_of_their_own() -> None:
    faces = [reading(Box(200 + 400 * i, 300, 120, 150)) for i in range(2)]
    drawn = pixels(grey(1200, 800), *faces)
    for number, colour in enumerate(COLOURS[:2]):
        left = 200 + 400 * number
        tag = drawn[303:310, left + 3 : left + 10]
        assert (tag == colour).all()
    alone = pixels(grey(1200, 800), faces[0])
    assert (alone[310:320, 210:220] == 128).all()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_panel_is_readable_on_any_ground(level: int) -> None:
    panel = draw_panel(reading(Box(0, 0, 1, 1)).probabilities, "", 12, COLOURS[0])
    drawn = pixels(grey(900, 700, level), reading(Box(100, 300, 100, 120)))
    changed = luminance(drawn[:, 240:][(drawn[:, 240:] != level).any(axis=2)])
    assert len(changed) >= 0.9 * panel.width * panel.height
    ground, ink = np.median(changed), np.quantile(changed, 0.98)
    assert (ink + 0.05) / (ground + 0.05) > 4.5


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_bar_of_the_likeliest_is_in_the_faces_colour_and_as_long_as_its_share(share: float) -> None:
    probabilities = reading(Box(0, 0, 1, 1), share).probabilities
    panel = np.asarray(draw_panel(probabilities, "", 20, COLOURS[1]), np.int64)[..., :3]
    coloured = (np.abs(panel - COLOURS[1]).max(axis=2) < 8).sum(axis=1)
    assert coloured.max() == pytest.approx(share * BAR_WIDTH * 20, abs=2)
    middle = np.flatnonzero(coloured).mean() / len(panel)
    assert middle == pytest.approx((HAPPY + 0.5) / 7, abs=0.05)


def test_doubt_is_told_in_a_line_of_its_own() -> None:
    box = Box(100, 300, 100, 120)
    plain = pixels(grey(900, 700), reading(box))
    doubted = pixels(grey(900, 700), reading(box, unscored=Unscored.TOO_BLURRED))
    heights = [
        np.ptp(np.flatnonzero((p[:, 300:] != 128).any(axis=(1, 2)))) for p in (plain, doubted)
    ]
    letter = np.sqrt(900 * 700) / 36
    rows = panel_size(letter, titled=True).height - panel_size(letter, titled=False).height
    assert heights[1] - heights[0] == pytest.approx(rows, abs=2)
