import cv2
import numpy as np
import pytest
from drawing import Image, draw_scene

from edge_daemon.detection.step import resize_to_max_side


def by_area(picture: Image, size: tuple[int, int]) -> Image:
    """The mean over each new pixel's area: exact, and slow."""
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((1920, 1080), 640, (640, 360)),
        ((1280, 720), 640, (640, 360)),
        ((960, 540), 640, (640, 360)),
        ((1001, 333), 480, (480, 160)),
        ((333, 1001), 480, (160, 480)),
        ((5000, 3), 64, (64, 1)),
    ],
)
def test_reduced_picture_has_the_requested_longer_side(
    size: tuple[int, int], max_side: int, expected: tuple[int, int]
) -> None:
    width, height = size
    for depth in ((), (3,)):
        small = resize_to_max_side(np.zeros((height, width, *depth), np.uint8), max_side)
        assert small.shape == (expected[1], expected[0], *depth)


def test_reduced_small_picture_is_the_same_object() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    assert resize_to_max_side(picture, 640) is picture
    assert resize_to_max_side(picture, 1000) is picture


@pytest.mark.parametrize("size", [(641, 487), (960, 540), (1280, 720), (1919, 1081), (2560, 1440)])
def test_reduced_faces_keep_their_places(size: tuple[int, int]) -> None:
    width, height = size
    scene = draw_scene((40, 60, height // 4), (width // 2, height // 3, height // 2), size=size)
    small = resize_to_max_side(scene, 480)
    expected = by_area(scene, (small.shape[1], small.shape[0]))
    off = np.abs(small.astype(float) - expected)
    assert off.mean() < 1.0
    moved = np.abs(small[:, 1:].astype(float) - expected[:, :-1])
    assert moved.mean() > 2 * off.mean()


def test_reduced_fine_pattern_becomes_grey() -> None:
    checks = 255 * (np.indices((540, 960)).sum(axis=0) % 2)
    small = resize_to_max_side(checks.astype(np.uint8), 480)
    assert np.ptp(small) <= 1
