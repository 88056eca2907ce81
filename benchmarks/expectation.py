"""What a Raspberry Pi 4 can be expected to take, inferred from what others published."""

from typing import Final, NamedTuple

from benchmarks.document import table
from edge_daemon._lib.files import bundled_detector, bundled_models
from edge_daemon.config.settings import DetectionSettings
from edge_daemon.detection.bundled import padded_side, read_manifest
from edge_daemon.inference.bundle import read_bundle

CORES: Final = 4


class Published(NamedTuple):
    """An int8 network on all cores of a Raspberry Pi 4 (64 bits), by XNNPACK's own figures."""

    mmac: float
    milliseconds: float


PUBLISHED: Final = (
    Published(mmac=569, milliseconds=24),  # MobileNet v1 at 224x224
    Published(mmac=300, milliseconds=17),  # MobileNet v2 at 224x224
)

DETECTOR_SIDE: Final = 192
"""Side in pixels of the image to which the detector's multiply-accumulates refer."""


def expectation() -> str:
    """What each network that came along costs there, as a table."""
    members = [member.mmac for member in read_bundle(bundled_models()).members]
    works = (
        ("the detector, a frame of 640x480", _detector_mmac()),
        ("the first member, a face", members[0]),
        (f"all {len(members)} members, a face", sum(members)),
    )
    head = ("", "million multiply-accumulates:", "four cores:", "one core, at most:")
    return table(
        head, ((what, f"{mmac:.0f}", _range(mmac, 1), _range(mmac, CORES)) for what, mmac in works)
    )


def _detector_mmac() -> float:
    """For a picture of 4:3 at the default size, padded to whole cells."""
    width = DetectionSettings().max_side
    pixels = padded_side(width) * padded_side(width * 3 // 4)
    return read_manifest(bundled_detector()).search.mmac * pixels / DETECTOR_SIDE**2


def _range(mmac: float, times: int) -> str:
    """Milliseconds at the published rates times `times`, an upper bound for fewer cores."""
    times_ms = sorted(times * mmac * known.milliseconds / known.mmac for known in PUBLISHED)
    return " to ".join(f"{milliseconds:.1f}" for milliseconds in times_ms) + " ms"
