"""The chart of a summary: key figures, the share of each emotion, and the visits over time.

It is a drawing of simple shapes, written as SVG for the page and as PNG.
"""

import base64
import bisect
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal
from xml.etree import ElementTree as ET

from edge_daemon._lib.clock import in_minutes
from edge_daemon.output.visits import Statistics, Visit
from edge_daemon.records import FACE_LABELS, FaceLabel

if TYPE_CHECKING:
    from PIL import Image, ImageDraw


FONT: Final = "system-ui, sans-serif"

PNG_SCALE: Final = 2
"""Pixels of the PNG for one unit of the drawing."""

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Rectangle:
    """A filled rectangle, with a text that a browser shows for it."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    title: str = ""


@dataclass(frozen=True)
class Text:
    """One line, whose middle is at y."""

    x: float
    y: float
    text: str
    size: float
    fill: str
    anchor: Anchor = "start"


@dataclass(frozen=True)
class EmbeddedImage:
    """A JPEG within a square."""

    x: float
    y: float
    side: float
    jpeg: bytes


Shape = Rectangle | Text | EmbeddedImage


@dataclass(frozen=True)
class Drawing:
    """Shapes from back to front, on a ground. Lengths are CSS pixels, colours are `#rrggbb`."""

    width: float
    height: float
    ground: str
    shapes: Sequence[Shape]

    def as_svg(self, title: str) -> str:
        """Draw as an SVG element for an HTML page, with an accessible title."""
        svg = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {self.width:g} {self.height:g}",
                "role": "img",
                "font-family": FONT,
            },
        )
        ET.SubElement(svg, "title").text = title
        ground = Rectangle(0, 0, self.width, self.height, self.ground)
        for shape in (ground, *self.shapes):
            svg.append(_svg_of(shape))
        return ET.tostring(svg, encoding="unicode")

    def as_png(self) -> bytes:
        """Draw as a PNG, by Pillow.

        Raises:
            ImportError: Pillow is not installed.
        """
        from PIL import Image, ImageDraw

        size = round(PNG_SCALE * self.width), round(PNG_SCALE * self.height)
        image = Image.new("RGB", size, self.ground)
        pen = ImageDraw.Draw(image)
        for shape in self.shapes:
            if isinstance(shape, Rectangle):
                _draw_rectangle(pen, shape)
            elif isinstance(shape, Text):
                _draw_text(pen, shape)
            else:
                _paste(image, shape)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def _svg_of(shape: Shape) -> ET.Element:
    if isinstance(shape, Rectangle):
        element = ET.Element("rect", {"fill": shape.fill})
        lengths = {"width": shape.width, "height": shape.height}
        if shape.title:
            ET.SubElement(element, "title").text = shape.title
    elif isinstance(shape, Text):
        element = ET.Element(
            "text",
            {"fill": shape.fill, "text-anchor": shape.anchor, "dominant-baseline": "central"},
        )
        element.text = shape.text
        lengths = {"font-size": shape.size}
    else:
        address = "data:image/jpeg;base64," + base64.b64encode(shape.jpeg).decode()
        element = ET.Element("image", {"href": address})
        lengths = {"width": shape.side, "height": shape.side}
    for name, value in ({"x": shape.x, "y": shape.y} | lengths).items():
        element.set(name, f"{value:.2f}".rstrip("0").rstrip("."))
    return element


def _draw_rectangle(pen: "ImageDraw.ImageDraw", shape: Rectangle) -> None:
    left, top = round(PNG_SCALE * shape.x), round(PNG_SCALE * shape.y)
    right = round(PNG_SCALE * (shape.x + shape.width)) - 1
    bottom = round(PNG_SCALE * (shape.y + shape.height)) - 1
    if right >= left and bottom >= top:
        pen.rectangle((left, top, right, bottom), shape.fill)


def _draw_text(pen: "ImageDraw.ImageDraw", shape: Text) -> None:
    from PIL import ImageFont

    anchor = {"start": "lm", "middle": "mm", "end": "rm"}[shape.anchor]
    font = ImageFont.load_default(PNG_SCALE * shape.size)
    position = (PNG_SCALE * shape.x, PNG_SCALE * shape.y)
    pen.text(position, shape.text, shape.fill, font, anchor)


def _paste(image: "Image.Image", shape: EmbeddedImage) -> None:
    from PIL import Image

    side = round(PNG_SCALE * shape.side)
    thumbnail = Image.open(io.BytesIO(shape.jpeg)).convert("RGB")
    scale = side / max(thumbnail.size)
    thumbnail = thumbnail.resize((round(scale * thumbnail.width), round(scale * thumbnail.height)))
    corner = (
        round(PNG_SCALE * shape.x) + (side - thumbnail.width) // 2,
        round(PNG_SCALE * shape.y) + (side - thumbnail.height) // 2,
    )
    image.paste(thumbnail, corner)


WIDTH: Final = 960
PADDING: Final = 32

GROUND: Final = "#fffdf8"
INK: Final = "#1c2226"
QUIET: Final = "#59636b"
LINE: Final = "#ddd7cb"
TRACK: Final = "#f1ede4"

COLOURS: Final = dict(
    zip(
        FACE_LABELS,
        (
            *("#cf5a00", "#00936b", "#b3628f", "#e0a100", "#0069a8", "#3f97cf", "#8a9097"),
            *("#c9c3b6", "#e2dccf"),
        ),
        strict=True,
    )
)
"""The emotions' colours on the preview's page, and two more."""

TITLE_SIZE: Final = 22
FIGURE_SIZE: Final = 24
HEADING_SIZE: Final = 15
TEXT_SIZE: Final = 13

SHARE_ROW: Final = 24
LABEL_WIDTH: Final = 96
ROW: Final = 26
THUMBNAIL_ROW: Final = 56
BAR: Final = 14

MAX_ROWS: Final = 40
"""Visits in the chart; if there are more, the longest."""

MAX_TICKS: Final = 9
TICKS_S: Final = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200),
    *(86_400 * days for days in (1, 2, 4, 7, 14, 28, 56)),
)
"""Seconds between two marks on the time axis."""


def chart(statistics: Statistics) -> Drawing:
    """Draw the statistics."""
    drawer = _Drawer(statistics)
    drawer.draw()
    return Drawing(WIDTH, drawer.y + PADDING / 2, GROUND, drawer.shapes)


def duration_text(seconds: float) -> str:
    """A duration as `m:ss` or `h:mm:ss`; below ten seconds, with a tenth."""
    return f"{seconds:.1f} s" if seconds < 9.95 else in_minutes(seconds)


def key_figures(statistics: Statistics) -> list[tuple[str, str]]:
    """The figures above the charts, each with its name."""
    totals = statistics.totals
    if statistics.is_images:
        return [
            ("images", str(statistics.frames)),
            ("images with faces", str(statistics.frames_with_faces)),
            ("faces", str(totals.visits)),
        ]
    mean_s = totals.duration / max(1, totals.visits)
    return [
        ("duration", duration_text(statistics.duration)),
        ("frames", str(statistics.frames)),
        ("visits", str(totals.visits)),
        ("mean length", duration_text(mean_s) if totals.visits else "-"),
        ("longest", duration_text(totals.longest) if totals.visits else "-"),
    ]


class _Drawer:
    """Draws from above; `y` is where the next part starts."""

    def __init__(self, statistics: Statistics) -> None:
        self.shapes: list[Shape] = []
        self.y = float(PADDING)
        self._statistics = statistics

    def draw(self) -> None:
        self._title()
        self._figures()
        self._shares()
        if self._statistics.visits and not self._statistics.is_images:
            self._timeline()

    def _text(self, x: float, text: str, size: float, fill: str = INK) -> None:
        self.shapes.append(Text(x, self.y, text, size, fill))

    def _heading(self, text: str) -> None:
        self.y += 14
        self._text(PADDING, text, HEADING_SIZE)
        self.y += 26

    def _title(self) -> None:
        self._text(PADDING, self._statistics.source, TITLE_SIZE)
        self.y += 26
        if (started := self._statistics.started_at) is not None:
            self._text(PADDING, f"from {started:%Y-%m-%d %H:%M:%S} UTC", TEXT_SIZE, QUIET)
            self.y += 20
        self.y += 14

    def _figures(self) -> None:
        figures = key_figures(self._statistics)
        step = (WIDTH - 2 * PADDING) / 5
        for number, (name, value) in enumerate(figures):
            x = PADDING + number * step
            self._text(x, value, FIGURE_SIZE)
            self.shapes.append(Text(x, self.y + 24, name, TEXT_SIZE, QUIET))
        self.y += 60

    def _shares(self) -> None:
        is_images = self._statistics.is_images
        self._heading("Share of faces" if is_images else "Share of the time in sight")
        left, right = PADDING + LABEL_WIDTH, WIDTH - PADDING - 60
        for label, share in self._statistics.shares.items():
            top = self.y - BAR / 2
            self._text(PADDING, label, TEXT_SIZE)
            self.shapes.append(Rectangle(left, top, right - left, BAR, TRACK))
            width = share * (right - left)
            self.shapes.append(Rectangle(left, top, width, BAR, COLOURS[label]))
            end = WIDTH - PADDING
            self.shapes.append(Text(end, self.y, f"{100 * share:.1f} %", TEXT_SIZE, INK, "end"))
            self.y += SHARE_ROW

    def _timeline(self) -> None:
        visits = _longest(self._statistics.visits)
        self._heading("Visits")
        has_thumbnails = any(visit.thumbnail for visit in visits)
        row = THUMBNAIL_ROW if has_thumbnails else ROW
        self.y += (row - ROW) / 2
        first = self.y
        left = PADDING + LABEL_WIDTH + has_thumbnails * THUMBNAIL_ROW
        axis = _Axis(left, WIDTH - PADDING, self._statistics.duration)
        grid = len(self.shapes)
        for visit in visits:
            self._visit(visit, axis, row)
        ticks = [
            Rectangle(axis.x(tick), first - row / 2, 1, len(visits) * row, LINE)
            for tick in axis.ticks
        ]
        self.shapes[grid:grid] = ticks
        self.y -= (row - ROW) / 2
        for tick in axis.ticks:
            label = in_minutes(tick) if axis.step >= 1 else f"{tick:.1f} s"
            self.shapes.append(Text(axis.x(tick), self.y, label, TEXT_SIZE, QUIET, "middle"))
        self.y += 26
        if (hidden := len(self._statistics.visits) - len(visits)) > 0:
            self._text(PADDING, f"and {hidden} shorter visits", TEXT_SIZE, QUIET)
            self.y += 20

    def _visit(self, visit: Visit, axis: "_Axis", row: float) -> None:
        self._text(PADDING, f"face {visit.track_id}", TEXT_SIZE)
        if visit.thumbnail is not None:
            side = row - 6
            self.shapes.append(
                EmbeddedImage(PADDING + LABEL_WIDTH - 24, self.y - side / 2, side, visit.thumbnail)
            )
        top = self.y - BAR / 2
        for start, end, label in axis.runs(visit):
            title = f"face {visit.track_id}: {label}, {duration_text(axis.time(start))}"
            self.shapes.append(Rectangle(start, top, end - start, BAR, COLOURS[label], title))
        self.y += row


class _Axis:
    """Time from left to right."""

    def __init__(self, left: float, right: float, duration: float) -> None:
        self._left = left
        self._per_second = (right - left) / max(duration, 1e-3)
        spacing = duration / MAX_TICKS
        self.step = TICKS_S[min(bisect.bisect_left(TICKS_S, spacing), len(TICKS_S) - 1)]
        self.ticks = [self.step * number for number in range(int(duration / self.step) + 1)]

    def x(self, seconds: float) -> float:
        return self._left + seconds * self._per_second

    def time(self, x: float) -> float:
        return (x - self._left) / self._per_second

    def runs(self, visit: Visit) -> Iterator[tuple[float, float, FaceLabel]]:
        """Start, end and label of what is drawn of a visit: in each pixel, the longest label."""
        pixels: dict[int, dict[FaceLabel, float]] = defaultdict(lambda: defaultdict(float))
        for segment in visit.segments:
            start, end = self.x(segment.start), self.x(segment.end)
            for pixel in range(int(start), int(end) + 1):
                covered = min(end, pixel + 1) - max(start, pixel)
                pixels[pixel][segment.label] += max(covered, 1e-6)
        labels = [
            (pixel, max(parts, key=parts.__getitem__)) for pixel, parts in sorted(pixels.items())
        ]
        # Pixels with a gap between them are in different runs.
        for (_, label), run in groupby(
            enumerate(labels), key=lambda item: (item[1][0] - item[0], item[1][1])
        ):
            columns = [pixel for _, (pixel, _) in run]
            yield columns[0], columns[-1] + 1, label


def _longest(visits: Sequence[Visit]) -> list[Visit]:
    """Those that fit into the chart, in their order."""
    chosen = sorted(visits, key=lambda visit: visit.duration, reverse=True)[:MAX_ROWS]
    return sorted(chosen, key=lambda visit: visit.start)
