"""What a face detector is."""

from dataclasses import dataclass
from typing import Protocol

from edge_daemon.records import Detection, Image


@dataclass(frozen=True)
class Framing:
    """Where a detector's box sits in the crop that the models know, in fractions of its side.

    Each detector draws its box in its own way. These four figures, measured on the training
    images, are all that is needed to get from any detector's box to the same crop.
    """

    x: float
    y: float
    width: float
    height: float


class Detector(Protocol):
    """Finds faces in a picture."""

    name: str
    framing: Framing
    start_score: float
    """Less certain detections count only where a face is followed already."""

    def detect(self, bgr: Image) -> list[Detection]:
        """The faces in a BGR uint8 [H, W, 3] picture, in its pixels."""
        ...
