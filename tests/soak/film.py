"""The film of the camera: people appear and leave, each image as a JPEG."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from drawing import Image, draw_scene

RATE: Final = 12.5
"""Pictures a second."""

SHOTS: Final = 60
"""Visits, each followed by an empty scene, until the film begins again."""


@dataclass(frozen=True)
class Film:
    """Pictures to be shown one after another, repeatedly."""

    pictures: tuple[bytes, ...]
    empty: bytes
    """The empty scene."""
    other_size: bytes
    """A picture of another size."""

    def at(self, seconds: float) -> bytes:
        """What is shown so many seconds after the beginning."""
        return self.pictures[int(seconds * RATE) % len(self.pictures)]


def film_of(clips: list[Path], chance: random.Random) -> Film:
    """Pieces of the clips, or, without any, drawn faces that walk through the picture."""
    takes = [_pictures(clip) for clip in clips] or [_walk(y) for y in (20, 60, 100)]
    height, width = takes[0][0].shape[:2]
    empty = np.full((height, width, 3), 120, np.uint8)
    encoded = [[_jpeg(picture) for picture in take] for take in takes]
    pictures: list[bytes] = []
    for _ in range(SHOTS):
        take = chance.choice(encoded)
        begin = chance.randrange(len(take) // 2)
        pictures += take[begin : begin + chance.randint(10, len(take))]
        pictures += [_jpeg(empty)] * chance.randint(5, 25)
    other = np.full((height // 2 + 8, width // 2, 3), 120, np.uint8)
    return Film(tuple(pictures), _jpeg(empty), _jpeg(other))


def _pictures(clip: Path) -> list[Image]:
    """All of a video file's: BGR uint8 [H, W, 3] each."""
    capture = cv2.VideoCapture(str(clip))
    pictures = []
    while True:
        ok, picture = capture.read()
        if not ok:
            return pictures
        pictures.append(np.asarray(picture, np.uint8))


def _walk(y: int) -> list[Image]:
    return [draw_scene((2 * step, y, 120)) for step in range(60)]


def _jpeg(picture: Image) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()
