"""Turning the frames of a camera that is not mounted upright."""

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

import cv2
import numpy as np

from edge_daemon.capture.base import FlowingReader, Picture, Reader, Source
from edge_daemon.records import Image

ROTATIONS: Final = MappingProxyType(
    {
        90: cv2.ROTATE_90_CLOCKWISE,
        180: cv2.ROTATE_180,
        270: cv2.ROTATE_90_COUNTERCLOCKWISE,
    }
)


@dataclass(frozen=True)
class Orientation:
    """How to turn a frame: first it is flipped, then rotated."""

    rotation: int = 0
    """Degrees clockwise: 0, 90, 180 or 270."""
    hflip: bool = False
    """Exchange left and right."""
    vflip: bool = False
    """Exchange top and bottom."""

    @property
    def is_identity(self) -> bool:
        return self == Orientation()

    @property
    def without_half_turn(self) -> Self:
        """The same with a half turn written as two flips, as a sensor can read its rows."""
        if self.rotation < 180:
            return self
        return dataclasses.replace(
            self, rotation=self.rotation - 180, hflip=not self.hflip, vflip=not self.vflip
        )

    def apply(self, image: Image) -> Image:
        """A turned copy: uint8 [H, W, 3], or [W, H, 3] after a quarter turn."""
        if self.hflip or self.vflip:
            axis = -1 if self.hflip and self.vflip else int(self.hflip)
            image = np.asarray(cv2.flip(image, axis), np.uint8)
        if self.rotation:
            image = np.asarray(cv2.rotate(image, ROTATIONS[self.rotation]), np.uint8)
        return image


class Oriented:
    """A source whose frames are turned.

    Args:
        source: gives the frames as the camera sees them.
        orientation: how to turn them.
    """

    def __init__(self, source: Source, orientation: Orientation) -> None:
        self.name = source.name
        self.live = source.live
        self.source = source
        self._orientation = orientation

    def open(self) -> Reader:
        """Open the source.

        Raises:
            SourceError: as the source does.
        """
        reader = self.source.open()
        if isinstance(reader, FlowingReader):
            return _OrientedFlowingReader(reader, self._orientation)
        return _OrientedReader(reader, self._orientation)


class _OrientedReader:
    def __init__(self, reader: Reader, orientation: Orientation) -> None:
        self.close = reader.close
        self._reader = reader
        self._orientation = orientation

    def read(self) -> Picture | None:
        picture = self._reader.read()
        if picture is None:
            return None
        reduced = None if picture.reduced is None else self._orientation.apply(picture.reduced)
        return dataclasses.replace(
            picture, bgr=self._orientation.apply(picture.bgr), reduced=reduced
        )


class _OrientedFlowingReader(_OrientedReader):
    def __init__(self, reader: FlowingReader, orientation: Orientation) -> None:
        super().__init__(reader, orientation)
        self.skip = reader.skip
