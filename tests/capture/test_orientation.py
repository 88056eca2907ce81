import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import draw_scene

from edge_daemon.capture.base import CapturedFrame, SourceKind, SupportsSkip
from edge_daemon.capture.wrappers import Orientation, Oriented

SCENE = draw_scene((20, 60, 120))[:200]
ALL = [
    Orientation(rotation, hflip, vflip)
    for rotation, hflip, vflip in itertools.product((0, 90, 180, 270), (False, True), (False, True))
]


class Camera:
    """A source of one frame, which flows where it has `skip`."""

    name = "camera"
    kind = SourceKind.CAMERA
    is_live = True

    def __init__(self, **methods: object) -> None:
        self._methods = methods
        self.closed = False

    def open(self) -> SimpleNamespace:
        picture = CapturedFrame(
            SCENE, 1.5, 3, reduced=SCENE[::2, ::2], position_s=1.5, file="a.png"
        )
        return SimpleNamespace(
            read=iter([picture, None]).__next__, close=self.close, **self._methods
        )

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("orientation", ALL, ids=str)
def test_orientation_flips_then_rotates_clockwise(orientation: Orientation) -> None:
    expected = SCENE[:: -1 if orientation.vflip else 1, :: -1 if orientation.hflip else 1]
    expected = np.rot90(expected, -orientation.rotation // 90)
    assert np.array_equal(orientation.apply(SCENE), expected)


@pytest.mark.parametrize("orientation", ALL, ids=str)
def test_half_turn_as_flips_shows_the_same(orientation: Orientation) -> None:
    flipped = orientation.without_half_turn
    assert flipped.rotation in {0, 90}
    assert np.array_equal(flipped.apply(SCENE), orientation.apply(SCENE))


def test_oriented_source_turns_both_images_and_keeps_the_rest() -> None:
    camera = Camera()
    source = Oriented(camera, Orientation(90))
    assert (source.name, source.is_live) == ("camera", True)
    reader = source.open()
    picture = reader.read()
    assert picture is not None
    assert np.array_equal(picture.bgr, np.rot90(SCENE, -1))
    assert picture.reduced is not None
    assert np.array_equal(picture.reduced, np.rot90(SCENE[::2, ::2], -1))
    assert (picture.stream_time_s, picture.scene, picture.position_s) == (1.5, 3, 1.5)
    assert picture.file == "a.png"
    assert reader.read() is None
    reader.close()
    assert camera.closed


def test_oriented_stream_still_skips() -> None:
    skipped: list[bool] = []
    reader = Oriented(Camera(skip=lambda: skipped.append(True)), Orientation(180)).open()
    assert isinstance(reader, SupportsSkip)
    reader.skip()
    assert skipped == [True]
    assert not isinstance(Oriented(Camera(), Orientation(180)).open(), SupportsSkip)
