"""The structure of JPEG data: where the first image ends, and how large it is.

libjpeg fills what a truncated image lacks with grey, so its end must be found here. Phones append
videos, depth maps and more images after the end (motion photos, MPF), which are not looked at.
"""

import re
from typing import Final, NamedTuple

START: Final = b"\xff\xd8\xff"

END_OF_IMAGE: Final = 0xD9
START_OF_IMAGE: Final = 0xD8
START_OF_SCAN: Final = 0xDA

WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that stand alone: TEM and the restarts."""

FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segment with the image's size: all SOF."""

MARKER_AFTER_SCAN: Final = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""The marker that ends entropy-coded data, in which 0xFF stands before 0 and restarts only."""


class JpegInfo(NamedTuple):
    """The first image in some data."""

    end: int
    """Index after its last byte."""
    width: int
    height: int


def jpeg_info(data: bytes) -> JpegInfo | None:
    """Find the first complete image (ITU-T T.81, annex B); None if it is not complete."""
    size = (0, 0)
    place = 2
    while (marker := _marker_at(data, place)) is not None:
        code, place = marker
        if code == END_OF_IMAGE:
            return JpegInfo(place, *size)
        if code == START_OF_IMAGE:
            return None  # of another image, so the end of this one is missing
        if code in WITHOUT_LENGTH:
            continue
        segment = place
        place += int.from_bytes(data[place : place + 2], "big")
        if code in FRAME_HEADERS:
            height, width = data[segment + 3 : segment + 5], data[segment + 5 : segment + 7]
            size = (int.from_bytes(width, "big"), int.from_bytes(height, "big"))
        elif code == START_OF_SCAN:
            end = MARKER_AFTER_SCAN.search(data, place)
            if end is None:
                return None
            place = end.start()
    return None


def _marker_at(data: bytes, place: int) -> tuple[int, int] | None:
    """The code of the next marker from here on, and the place after it; None at the end."""
    start = data.find(b"\xff", place)  # libjpeg skips garbage between segments, too
    if start < 0:
        return None
    while start < len(data) and data[start] == 0xFF:
        start += 1
    return (data[start], start + 1) if start < len(data) else None
