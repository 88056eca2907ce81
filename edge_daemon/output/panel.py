"""Labels of faces, readable on any image: a panel with a bar for each emotion, and a short one.

Measures are in sizes of the letters, which are in pixels.
"""

from functools import lru_cache
from typing import Final, cast

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from edge_daemon.output.layout import Size
from edge_daemon.records import EMOTIONS, Image, Probabilities

Colour = tuple[int, int, int]
"""RGB."""

GROUND: Final[Colour] = (22, 24, 29)
OPACITY: Final = 225
BRIGHT: Final[Colour] = (255, 255, 255)
DIM: Final[Colour] = (182, 188, 198)
TRACK: Final[Colour] = (58, 62, 71)
BAR: Final[Colour] = (138, 146, 160)

PADDING: Final = 0.8
ROW: Final = 1.45
LABEL: Final = 4.9
BAR_WIDTH: Final = 5.5
BAR_HEIGHT: Final = 0.6
SHARE: Final = 3.0
ROUNDING: Final = 0.6

TAG_PADDING: Final = 0.45
TAG_WIDTH: Final = 8.4
"""Enough for an emotion with its share."""
TAG_BARS_HEIGHT: Final = 1.5

SUPERSAMPLING: Final = 4
"""The ground is drawn this many times larger and then reduced, which smooths its corners."""


def panel_size(letter: float, *, titled: bool) -> Size:
    """The size of what `draw_panel` returns, in pixels."""
    rows = len(EMOTIONS) + titled
    return Size(
        round(letter * (2 * PADDING + LABEL + BAR_WIDTH + SHARE)),
        round(letter * (2 * PADDING + rows * ROW)),
    )


def tag_size(letter: float, *, has_bars: bool) -> Size:
    """The size of what `draw_tag` returns, in pixels."""
    height = 2 * TAG_PADDING + 1 + has_bars * (TAG_PADDING + TAG_BARS_HEIGHT)
    return Size(round(letter * (2 * TAG_PADDING + TAG_WIDTH)), round(letter * height))


def draw_panel(
    probabilities: Probabilities | None, title: str, letter: float, colour: Colour
) -> Image:
    """Draw the panel, RGBA uint8 [H, W, 4], with the most probable emotion in the face's colour.

    Args:
        probabilities: float32 [7]; None draws empty bars.
        title: text above the bars; may be empty.
        letter: size of the letters.
        colour: the face's own.
    """
    panel = _panel_ground(letter, bool(title)).copy()
    pen, font = ImageDraw.Draw(panel), _font(letter)
    middle = PADDING + ROW / 2
    if title:
        pen.text((PADDING * letter, middle * letter), title, colour, font, "lm")
        middle += ROW
    if probabilities is not None:
        most_probable = int(probabilities.argmax())
        for index, share in enumerate(probabilities.tolist()):
            is_chosen = index == most_probable
            row = (middle + index * ROW) * letter
            ink = BRIGHT if is_chosen else DIM
            if is_chosen:
                pen.text((PADDING * letter, row), EMOTIONS[index], ink, font, "lm")
            _draw_bar(pen, share, row, letter, colour if is_chosen else BAR)
            right = (PADDING + LABEL + BAR_WIDTH + SHARE) * letter
            pen.text((right, row), f"{100 * share:.0f} %", ink, font, "rm")
    return np.asarray(panel, np.uint8)


def draw_tag(
    text: str, probabilities: Probabilities | None, letter: float, colour: Colour
) -> Image:
    """Draw the short label, RGBA uint8 [H, W, 4]: a line of text, and seven small columns.

    Args:
        text: the line.
        probabilities: float32 [7], heights of the columns; None leaves them out.
        letter: size of the letters.
        colour: the face's own.
    """
    size = tag_size(letter, has_bars=probabilities is not None)
    tag = _ground(size, letter).copy()
    pen = ImageDraw.Draw(tag)
    pen.rectangle((0, 0, max(2, round(letter / 4)), size.height), (*colour, 255))
    left = 2 * TAG_PADDING * letter
    pen.text((left, (TAG_PADDING + 0.5) * letter), text, BRIGHT, _font(letter), "lm")
    if probabilities is not None:
        most_probable = int(probabilities.argmax())
        bottom = round(size.height - TAG_PADDING * letter)
        step = (TAG_WIDTH - TAG_PADDING) * letter / len(EMOTIONS)
        for index, share in enumerate(probabilities.tolist()):
            edges = (round(left + index * step), round(left + (index + 0.75) * step))
            full = bottom - round(TAG_BARS_HEIGHT * letter)
            pen.rectangle((edges[0], full, edges[1], bottom), TRACK)
            top = bottom - round(share * TAG_BARS_HEIGHT * letter)
            fill = colour if index == most_probable else BAR
            pen.rectangle((edges[0], top, edges[1], bottom), fill)
    return np.asarray(tag, np.uint8)


def draw_number(number: str, side: int, colour: Colour) -> Image:
    """Draw a face's number on a square of its colour, RGBA uint8 [side, side, 4]."""
    square = Pillow.new("RGBA", (side, side), (*colour, 255))
    middle = side / 2
    ImageDraw.Draw(square).text((middle, middle), number, GROUND, _font(side / 1.5), "mm")
    return np.asarray(square, np.uint8)


@lru_cache(maxsize=8)
def _font(size: float) -> FreeTypeFont:
    return cast(FreeTypeFont, ImageFont.load_default(size))  # of another type without a size


@lru_cache(maxsize=8)
def _ground(size: Size, letter: float) -> Pillow.Image:
    """A translucent rounded rectangle."""
    width, height = (SUPERSAMPLING * side for side in size)
    large = Pillow.new("RGBA", (width, height), (*GROUND, 0))
    whole = (0, 0, large.width, large.height)
    radius = ROUNDING * letter * SUPERSAMPLING
    ImageDraw.Draw(large).rounded_rectangle(whole, radius, (*GROUND, OPACITY))
    return large.resize(size, Pillow.Resampling.LANCZOS)


@lru_cache(maxsize=8)
def _panel_ground(letter: float, titled: bool) -> Pillow.Image:  # noqa: FBT001  # of a cached function
    """The parts of a panel that stay: its ground, the names and the empty bars."""
    panel = _ground(panel_size(letter, titled=titled), letter).copy()
    pen, font = ImageDraw.Draw(panel), _font(letter)
    for index, name in enumerate(EMOTIONS):
        row = (PADDING + (index + titled + 0.5) * ROW) * letter
        pen.text((PADDING * letter, row), name, DIM, font, "lm")
        _draw_bar(pen, 1.0, row, letter, TRACK)
    return panel


def _draw_bar(
    pen: ImageDraw.ImageDraw, share: float, middle: float, letter: float, fill: Colour
) -> None:
    left = (PADDING + LABEL) * letter
    length = share * BAR_WIDTH * letter
    if length < 0.5:
        return
    top, bottom = (round(middle + half * BAR_HEIGHT * letter) for half in (-0.5, 0.5))
    edges = (round(left), top, max(round(left), round(left + length) - 1), bottom - 1)
    pen.rounded_rectangle(edges, min(BAR_HEIGHT * letter / 4, length / 2), fill)
