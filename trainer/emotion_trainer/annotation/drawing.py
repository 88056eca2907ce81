"""A picture's copy with its faces marked, and beside each the panel that tells of it."""

import math
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Final

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from edge_daemon.records import Box, Image
from edge_daemon.schema import within
from emotion_trainer.annotation.layout import Layout, Size, arrange
from emotion_trainer.annotation.panel import GROUND, Colour, draw_panel, panel_size
from emotion_trainer.annotation.reading import Reading

COLOURS: Final[tuple[Colour, ...]] = (
    (255, 193, 7),
    (79, 195, 247),
    (129, 199, 132),
    (255, 138, 101),
    (206, 147, 216),
    (240, 240, 120),
)
"""Faces take turns with these."""

LEAST_SIDE: Final = 720
"""A smaller picture is enlarged to the area of a square with this side, in pixels."""

LETTERS: Final = (1 / 36, 1 / 45, 1 / 60, 1 / 75, 1 / 90)
"""Sizes of letters to try, in sides of a square of the picture's area …"""
LEAST_LETTER: Final = 12.0
"""… and the least that can be read, in pixels."""


def draw(bgr: Image, readings: Sequence[Reading]) -> Pillow.Image:
    """A copy, RGB, of a BGR uint8 [H, W, 3] picture, with what was read in its faces.

    It may be larger than the picture: small ones are enlarged, and where there is no room
    beside a face, its panel stands right of the picture.
    """
    picture, scale = _enlarge(Pillow.fromarray(np.ascontiguousarray(bgr[:, :, ::-1])))
    found = (reading.face.detection.enlarged(scale).box for reading in readings)
    boxes = [Box(*within(box, *picture.size)) for box in found]
    titles = _titles(readings)
    letter, layout = _choose(Size(*picture.size), boxes, titled=any(titles))
    canvas = Pillow.new("RGB", layout.canvas, GROUND)
    canvas.paste(picture)
    colours = list(islice(cycle(COLOURS), len(readings)))
    for number, (box, colour) in enumerate(zip(boxes, colours, strict=True), 1):
        _mark(canvas, box, letter, colour, str(number) if len(boxes) > 1 else "")
    for reading, title, corner, colour in zip(
        readings, titles, layout.corners, colours, strict=True
    ):
        panel = draw_panel(reading.probabilities, title, letter, colour)
        canvas.paste(panel, corner, panel)
    return canvas


def _enlarge(picture: Pillow.Image) -> tuple[Pillow.Image, float]:
    """The picture, enlarged if it is small, and by how much."""
    scale = LEAST_SIDE / _side(Size(*picture.size))
    if scale <= 1:
        return picture, 1.0
    width, height = (round(scale * side) for side in picture.size)
    return picture.resize((width, height), Pillow.Resampling.BICUBIC), scale


def _side(size: Size) -> float:
    """Side of the square of the same area."""
    return math.sqrt(size.width * size.height)


def _titles(readings: Sequence[Reading]) -> list[str]:
    """A face's number, if there are several, and why the daemon would not score it."""
    doubts = [(r.face.unscored or "").replace("_", " ") for r in readings]
    if len(readings) == 1:
        return doubts
    return [
        " · ".join(filter(None, (str(number), doubt))) for number, doubt in enumerate(doubts, 1)
    ]


def _choose(picture: Size, boxes: Sequence[Box], *, titled: bool) -> tuple[float, Layout]:
    """The letters with which the fewest panels' columns are outside, and of those the largest."""
    letters = [max(LEAST_LETTER, part * _side(picture)) for part in LETTERS]
    choices = [
        (letter, arrange(picture, boxes, panel_size(letter, titled=titled))) for letter in letters
    ]
    return min(choices, key=lambda choice: choice[1].columns)


def _mark(canvas: Pillow.Image, box: Box, letter: float, colour: Colour, number: str) -> None:
    """Draw a face's box, with a dark edge that sets it off, and its number."""
    pen = ImageDraw.Draw(canvas)
    stroke, edge = max(2, round(letter / 8)), max(1, round(letter / 16))
    right, bottom = box.x + box.width - 1, box.y + box.height - 1
    around = (box.x - edge, box.y - edge, right + edge, bottom + edge)
    pen.rectangle(around, outline=GROUND, width=stroke + 2 * edge)
    pen.rectangle((box.x, box.y, right, bottom), outline=colour, width=stroke)
    if number:
        side = 1.5 * letter
        pen.rectangle((box.x, box.y, box.x + side, box.y + side), fill=colour)
        middle = box.x + side / 2, box.y + side / 2
        pen.text(middle, number, GROUND, ImageFont.load_default(letter), "mm")
