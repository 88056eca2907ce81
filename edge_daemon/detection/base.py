"""Interface of face detectors."""

from typing import Annotated, Final, Protocol

from pydantic import Field

from edge_daemon._lib.validation import PlainModel
from edge_daemon.records import Detection, Image

TRACKED_MARGIN: Final = 0.2
"""Detections may score this much less than `start_score`: they continue a track, since heads turn
away and back."""
MAX_FACES: Final = 100
"""In one image; of more, those with the highest scores count."""


class Framing(PlainModel):
    """Position of a detector's box in the crop of the emotion models, in parts of its side.

    Each detector draws its boxes differently. These figures, measured on training images, map any
    detector's box to the same crop.
    """

    x: Annotated[float, Field(ge=-10.0, le=10.0)]
    y: Annotated[float, Field(ge=-10.0, le=10.0)]
    width: Annotated[float, Field(ge=0.01, le=10.0)]
    height: Annotated[float, Field(ge=0.01, le=10.0)]


class Detector(Protocol):
    """Finds faces in an image."""

    name: str
    framing: Framing
    start_score: float
    """Minimum score of a face that is not tracked yet."""

    def detect(self, bgr: Image) -> list[Detection]:
        """The faces in a BGR uint8 [H, W, 3] image, in its pixels."""
        ...
