"""The panel beside a face: a bar for each emotion, readable on any picture.

Its measures are given in sizes of its letters, which are in pixels.
"""

from typing import Final

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from edge_daemon.records import EMOTIONS, Probabilities
from emotion_trainer.annotation.layout import Size

Colour = tuple[int, int, int]

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

SMOOTH: Final = 4
"""A panel is drawn this many times larger and then reduced, which makes its edges smooth."""


def panel_size(letter: float, *, titled: bool) -> Size:
    """What `draw_panel` makes with letters of this size."""
    rows = len(EMOTIONS) + titled
    return Size(
        round(letter * (2 * PADDING + LABEL + BAR_WIDTH + SHARE)),
        round(letter * (2 * PADDING + rows * ROW)),
    )


def draw_panel(
    probabilities: Probabilities, title: str, letter: float, colour: Colour
) -> Pillow.Image:
    """An RGBA image with the most probable emotion's bar in the face's colour.

    Args:
        probabilities: of the seven emotions, float32 [7].
        title: stands above the bars; may be empty.
        letter: size of the letters.
        colour: the face's own.
    """
    size = panel_size(letter, titled=bool(title))
    drawing = _Drawing(size, letter, colour)
    if title:
        drawing.title(title)
    likeliest = int(probabilities.argmax())
    for index, (name, share) in enumerate(zip(EMOTIONS, probabilities, strict=True)):
        drawing.row(name, float(share), chosen=index == likeliest)
    return drawing.image.resize(size, Pillow.Resampling.LANCZOS)


class _Drawing:
    """A panel as it fills from above, drawn large."""

    def __init__(self, size: Size, letter: float, colour: Colour) -> None:
        self._unit = letter * SMOOTH
        self._colour = colour
        self._middle = PADDING + ROW / 2
        self.image = Pillow.new("RGBA", (size.width * SMOOTH, size.height * SMOOTH), (*GROUND, 0))
        self._pen = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(self._unit)
        whole = (0, 0, self.image.width, self.image.height)
        self._pen.rounded_rectangle(whole, ROUNDING * self._unit, (*GROUND, OPACITY))

    def title(self, words: str) -> None:
        """A line of its own."""
        self._write(PADDING, words, self._colour, "lm")
        self._middle += ROW

    def row(self, name: str, share: float, *, chosen: bool) -> None:
        """An emotion: its name, its bar, and its share in per cent."""
        ink = BRIGHT if chosen else DIM
        self._write(PADDING, name, ink, "lm")
        self._bar(1.0, TRACK)
        self._bar(share, self._colour if chosen else BAR)
        self._write(PADDING + LABEL + BAR_WIDTH + SHARE, f"{100 * share:.0f} %", ink, "rm")
        self._middle += ROW

    def _write(self, x: float, words: str, ink: Colour, anchor: str) -> None:
        place = x * self._unit, self._middle * self._unit
        self._pen.text(place, words, ink, self._font, anchor)

    def _bar(self, share: float, fill: Colour) -> None:
        left, top = PADDING + LABEL, self._middle - BAR_HEIGHT / 2
        length = BAR_WIDTH * share
        edges = (left, top, left + length, top + BAR_HEIGHT)
        corners = [edge * self._unit for edge in edges]
        self._pen.rounded_rectangle(corners, min(BAR_HEIGHT / 4, length / 2) * self._unit, fill)
