"""A drawing of simple shapes, as SVG for the page and as PNG."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from xml.etree import ElementTree as ET

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
class Picture:
    """A JPEG within a square."""

    x: float
    y: float
    side: float
    jpeg: bytes


Shape = Rectangle | Text | Picture


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
    place = (PNG_SCALE * shape.x, PNG_SCALE * shape.y)
    pen.text(place, shape.text, shape.fill, font, anchor)


def _paste(image: "Image.Image", shape: Picture) -> None:
    from PIL import Image

    side = round(PNG_SCALE * shape.side)
    picture = Image.open(io.BytesIO(shape.jpeg)).convert("RGB")
    scale = side / max(picture.size)
    picture = picture.resize((round(scale * picture.width), round(scale * picture.height)))
    corner = (
        round(PNG_SCALE * shape.x) + (side - picture.width) // 2,
        round(PNG_SCALE * shape.y) + (side - picture.height) // 2,
    )
    image.paste(picture, corner)
