"""Which detections count: those outside the ignored regions, from a minimum size."""

from collections.abc import Iterable

from edge_daemon.config.settings import Polygon, ZoneSettings
from edge_daemon.records import Detection, Frame


class Zones:
    """Filters detections.

    Args:
        settings: the ignored regions, and the minimum size.
    """

    def __init__(self, settings: ZoneSettings) -> None:
        self._settings = settings

    def apply(self, settings: ZoneSettings) -> None:
        """Use other regions or another minimum size."""
        self._settings = settings

    def counted(self, detections: Iterable[Detection], frame: Frame) -> list[Detection]:
        """The detections that count, which are in pixels of the frame."""
        return [detection for detection in detections if self._counts(detection, frame)]

    def _counts(self, detection: Detection, frame: Frame) -> bool:
        settings, box = self._settings, detection.box
        if min(box.width, box.height) < settings.min_face:
            return False
        if not settings.ignore:
            return True
        x, y = box.centre
        x, y = x / frame.width, y / frame.height
        return not any(contains(region, x, y) for region in settings.ignore)


def contains(polygon: Polygon, x: float, y: float) -> bool:
    """Whether a point is inside a polygon: a ray to the right crosses an odd number of edges."""
    inside = False
    x1, y1 = polygon[-1]
    for x2, y2 in polygon:
        if (y1 > y) != (y2 > y) and x < x1 + (x2 - x1) * (y - y1) / (y2 - y1):
            inside = not inside
        x1, y1 = x2, y2
    return inside
