import math

import cv2
import numpy as np
import pytest
from drawing import Image, draw_face
from hypothesis import given
from hypothesis import strategies as st

from edge_daemon.detection.alignment import crop_square, extract_crop
from edge_daemon.detection.base import Framing
from edge_daemon.detection.haar import HaarDetector
from edge_daemon.detection.yunet import YuNetDetector
from edge_daemon.records import Box, Detection

EYES_IN_CROP = np.array([[0.312, 0.38], [0.678, 0.38]]) * 48


def scene(side: int, x: int, y: int, size: tuple[int, int] = (320, 240)) -> Image:
    """A grey frame with a face at a place, possibly beyond the frame's edge."""
    canvas = np.full((size[1] + 400, size[0] + 400), 120, np.uint8)
    canvas[200 + y : 200 + y + side, 200 + x : 200 + x + side] = draw_face(side)
    return canvas[200:-200, 200:-200]


def framed(framing: Framing, x: float, y: float, side: float) -> Box:
    """The box that a detector with this framing draws around a face in a square."""
    return Box(
        x + framing.x * side, y + framing.y * side, framing.width * side, framing.height * side
    )


def shrunk(face: Image) -> Image:
    return np.asarray(cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)


def difference(crop: Image, expected: Image) -> float:
    return float(np.abs(crop.astype(float) - expected.astype(float)).mean())


@pytest.mark.parametrize("framing", [HaarDetector.framing, YuNetDetector.framing])
@pytest.mark.parametrize("side", [30, 48, 96, 201, 390])
def test_crop_equals_the_square_around_the_box(framing: Framing, side: int) -> None:
    detection = Detection(framed(framing, 20, 10, side), 1.0)
    crop = extract_crop(scene(side, 20, 10, (440, 440)), crop_square(detection, framing))
    assert crop.shape == (48, 48)
    assert crop.dtype == np.uint8
    assert crop_square(detection, framing).side == pytest.approx(side)
    assert difference(crop, shrunk(draw_face(side))) < 2.5


def test_crop_with_a_wrong_framing_differs() -> None:
    detection = Detection(framed(YuNetDetector.framing, 20, 10, 96), 1.0)
    grey, expected = scene(96, 20, 10), shrunk(draw_face(96))
    right = extract_crop(grey, crop_square(detection, YuNetDetector.framing))
    wrong = extract_crop(grey, crop_square(detection, HaarDetector.framing))
    assert difference(wrong, expected) > 3 * difference(right, expected)


@pytest.mark.parametrize("degrees", [-15, -5, 5, 15])
def test_crop_of_a_tilted_face_is_upright(degrees: float) -> None:
    framing, side = YuNetDetector.framing, 96
    box = framed(framing, 100, 70, side)
    turned = cv2.getRotationMatrix2D(box.centre, -degrees, 1.0)
    grey = cv2.warpAffine(scene(side, 100, 70), turned, (320, 240), borderValue=120)
    eyes = EYES_IN_CROP / 48 * side + (100, 70)
    landmarks = np.zeros((5, 2), np.float32)
    landmarks[:2] = cv2.transform(eyes[None], turned)[0]
    upright = extract_crop(
        np.asarray(grey, np.uint8), crop_square(Detection(box, 1.0, landmarks), framing)
    )
    tilted = extract_crop(np.asarray(grey, np.uint8), crop_square(Detection(box, 1.0), framing))
    expected = shrunk(draw_face(side))
    assert difference(upright, expected) < 2.5
    assert difference(upright, expected) < difference(tilted, expected)


def test_crop_beyond_the_frame_repeats_its_edge() -> None:
    framing = HaarDetector.framing
    grey = scene(96, -48, 40)
    crop = extract_crop(grey, crop_square(Detection(framed(framing, -48, 40, 96), 1.0), framing))
    assert difference(crop[:, 25:], shrunk(draw_face(96))[:, 25:]) < 2.5
    assert np.ptp(crop[:, :22], axis=1).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (500, 2)])
@pytest.mark.parametrize("place", [-900, 0, 900])
def test_crop_larger_than_the_picture_exists(size: tuple[int, int], place: int) -> None:
    picture = np.full(size, 77, np.uint8)
    detection = Detection(Box(place, place, 1000, 1000), 1.0)
    crop = extract_crop(picture, crop_square(detection, HaarDetector.framing))
    assert crop.shape == (48, 48)
    assert (crop == 77).all()


def test_crop_of_a_fine_pattern_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (480, 240))
    detection = Detection(Box(0, 0, 480, 480), 1.0)
    crop = extract_crop(stripes, crop_square(detection, Framing(x=0, y=0, width=1, height=1)))
    assert np.ptp(crop[2:-2, 2:-2]) < 30
    assert math.isclose(crop.mean(), 127.5, abs_tol=3)


@given(
    x=st.floats(-150, 150),
    y=st.floats(-120, 120),
    side=st.floats(10, 400),
    tilt=st.floats(-1, 1),
)
def test_crop_equals_one_cut_from_the_whole_frame(
    x: float, y: float, side: float, tilt: float
) -> None:
    picture = np.random.default_rng(7).integers(0, 256, (60, 80, 3), np.uint8)
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    landmarks = np.zeros((5, 2), np.float32)
    landmarks[1] = math.cos(tilt), math.sin(tilt)
    detection = Detection(Box(x, y, side, side), 1.0, landmarks)
    square = crop_square(detection, YuNetDetector.framing)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("edge_daemon.detection.alignment.MARGIN", 1000)
        whole = extract_crop(grey, square)
    # Interpolation rounds to 32nds of a pixel, wherever it counts from.
    assert difference(extract_crop(picture, square), whole) < 0.5
