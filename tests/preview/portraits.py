"""Drawn people whose faces move, for pictures of the preview: they resemble no real person.

Both detectors find them, and the models read what is drawn: a smile is happy, an open mouth
surprise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from drawing import Image, write_clip

SIZE = (960, 600)
FPS = 12.0

Colour = tuple[int, int, int]
"""BGR."""

SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Expression:
    """How far a face is from rest."""

    smile: float = 0.0
    gape: float = 0.0
    brows: float = 0.0
    frown: float = 0.0

    def towards(self, other: "Expression", part: float) -> "Expression":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Expression(*(mine + part * (its - mine) for mine, its in pairs))


REST = Expression(smile=0.45, gape=-0.2, brows=-1.0)
SMILE = Expression(smile=1.1, frown=0.4)
GASP = Expression(gape=1.0, brows=1.2)
SCOWL = Expression(smile=-1.0, gape=-0.3, brows=-1.0, frown=0.9)


@dataclass(frozen=True)
class Person:
    """A person, drawn at (x, y), in a square of so many pixels."""

    x: float
    y: float
    side: float
    skin: Colour
    hair: Colour
    shirt: Colour
    moods: tuple[Expression, ...]
    """One after another, each for as long."""


PEOPLE = (
    Person(
        150, 140, 290, (150, 185, 232), (35, 45, 70), (120, 95, 55),
        (REST, SMILE, SMILE, GASP, REST, SMILE, SCOWL, SMILE),
    ),
    Person(
        560, 175, 250, (95, 130, 180), (20, 22, 30), (60, 70, 140),
        (SMILE, REST, GASP, SMILE, SCOWL, REST, GASP, GASP),
    ),
)  # fmt: skip


class Portrait:
    """Draws one person into a picture; places are parts of the square's side."""

    def __init__(self, picture: Image, person: Person, expression: Expression) -> None:
        self._picture = picture
        self._person = person
        self._expression = expression

    def draw(self) -> None:
        shade, shine = _scaled(self._person.skin, 0.78), _scaled(self._person.skin, 1.1)
        self._ellipse((0.5, 1.42), (0.62, 0.42), self._person.shirt)
        self._ellipse((0.5, 0.98), (0.17, 0.2), shade)
        self._ellipse((0.5, 0.40), (0.385, 0.40), self._person.hair)
        for ear in (0.175, 0.825):
            self._ellipse((ear, 0.55), (0.045, 0.085), shade)
        self._ellipse((0.5, 0.53), (0.325, 0.42), self._person.skin)
        self._ellipse((0.5, 0.40), (0.29, 0.26), shine)
        self._ellipse((0.5, 0.16), (0.33, 0.12), self._person.hair)
        for temple, tilt in ((0.30, -35), (0.70, 35)):
            self._ellipse((temple, 0.20), (0.16, 0.10), self._person.hair, tilt)
        for eye, outwards in ((0.36, -1), (0.64, 1)):
            self._draw_eye(eye, outwards, shade)
        self._ellipse((0.5, 0.565), (0.026, 0.10), shine)
        self._ellipse((0.5, 0.645), (0.062, 0.028), shade)
        self._ellipse((0.5, 0.635), (0.05, 0.024), self._person.skin)
        self._draw_mouth()

    def _draw_eye(self, x: float, outwards: int, shade: Colour) -> None:
        felt = self._expression
        opening = 0.036 + 0.014 * felt.gape - 0.010 * max(felt.smile, 0)
        self._ellipse((x, 0.455), (0.088, 0.052), shade)
        self._ellipse((x, 0.46), (0.066, opening), (245, 245, 245))
        self._ellipse((x, 0.46), (0.030, min(opening, 0.031)), (55, 45, 30))
        self._ellipse((x - 0.008, 0.452), (0.008, 0.008), (255, 255, 255))
        tilt = outwards * (6 + 5.6 * felt.brows - 26 * felt.frown)
        brow = _scaled(self._person.hair, 0.7)
        self._ellipse((x, 0.375 - 0.035 * felt.brows), (0.092, 0.017), brow, tilt)

    def _draw_mouth(self) -> None:
        felt = self._expression
        along = np.linspace(-1, 1, 25)
        middle = 0.765 - 0.055 * felt.smile * (along**2 - 0.45)
        opening = (0.016 + 0.03 * max(felt.smile, 0) + 0.085 * felt.gape) * (1 - along**2) ** 0.6
        x = 0.5 + (0.135 + 0.03 * felt.smile - 0.03 * felt.gape) * along
        upper, lower = middle - 0.4 * opening, middle + opening
        self._polygon(x, upper, lower, (70, 60, 150))
        if felt.smile > 0.3 or felt.gape > 0.3:
            teeth = felt.smile > felt.gape
            within = 0.5 + 0.86 * (x - 0.5)
            inside = (245, 245, 250) if teeth else (35, 25, 60)
            self._polygon(within, upper + 0.008, lower - 0.014, inside)

    def _ellipse(
        self,
        centre: tuple[float, float],
        axes: tuple[float, float],
        colour: Colour,
        tilt: float = 0,
    ) -> None:
        place = self._pixels(np.array([centre]))[0].tolist()
        half = [max(1, round(self._person.side * axis * 2**SUBPIXEL_BITS)) for axis in axes]
        cv2.ellipse(
            self._picture, place, half, tilt, 0, 360, colour, -1, cv2.LINE_AA, SUBPIXEL_BITS
        )

    def _polygon(self, x: Image, upper: Image, lower: Image, colour: Colour) -> None:
        there, back = np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]
        points = self._pixels(np.concatenate([there, back]))
        cv2.fillPoly(self._picture, [points], colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def _pixels(self, places: Image) -> Image:
        """Places in the square as OpenCV's fixed-point pixels, int32 [N, 2]."""
        pixels = np.array([self._person.x, self._person.y]) + self._person.side * places
        return np.round(pixels * 2**SUBPIXEL_BITS).astype(np.int32)


def draw_people(time: float, mood_length: float) -> Image:
    """Everybody, so many seconds after the start: BGR uint8 [600, 960, 3]."""
    picture = _wall()
    for number, person in enumerate(PEOPLE):
        phase = time + 1.7 * number
        moved = Person(
            person.x + 26 * np.sin(phase / 2.1),
            person.y + 7 * np.sin(phase / 1.3),
            *list(vars(person).values())[2:],
        )
        Portrait(picture, moved, _felt(person, time, mood_length)).draw()
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.9), np.uint8)


def write_people(path: Path, seconds: float, mood_length: float = 8.0) -> Path:
    """A clip of them."""
    return write_clip(path, list(_scenes(seconds, mood_length)), FPS)


def _scenes(seconds: float, mood_length: float) -> Iterator[Image]:
    for number in range(round(seconds * FPS)):
        yield draw_people(number / FPS, mood_length)


def _felt(person: Person, time: float, mood_length: float) -> Expression:
    """The expression of the moment; one goes over into the next in the last second of its time."""
    count, passed = divmod(time, mood_length)
    now, after = (person.moods[(int(count) + step) % len(person.moods)] for step in (0, 1))
    return now.towards(after, max(0.0, passed - mood_length + 1))


def _wall() -> Image:
    width, height = SIZE
    down = np.linspace(0, 1, height)[:, None, None]
    wall = (1 - down) * np.array([205, 196, 178]) + down * np.array([150, 140, 120])
    return np.ascontiguousarray(np.broadcast_to(wall, (height, width, 3)).astype(np.uint8))


def _scaled(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(255, int(factor * part)) for part in colour)
    return blue, green, red
