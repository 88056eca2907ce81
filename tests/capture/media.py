"""Images and videos of a drawn face, and what a source reads from them."""

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import Image, draw_scene, write_clip

from edge_daemon.capture.base import CapturedFrame, Source

FRAMES = 40
FPS = 10
SCENES = [draw_scene((2 * step, 60, 120)) for step in range(FRAMES)]
SCENE = draw_scene((60, 60, 120))
COLOURED = np.dstack([SCENE[..., 0], SCENE[..., 0] // 2, SCENE[..., 0] // 4])

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def ffmpeg(*words: object) -> None:
    subprocess.run(["ffmpeg", "-y", "-v", "error", *map(str, words)], check=True, timeout=60)


def video(path: Path, *options: object, fps: float = FPS) -> Path:
    """The scenes at `fps`, encoded with these options of ffmpeg; the suffix is the format."""
    drawn = write_clip(path.with_name("drawn.avi"), SCENES, fps, codec="MJPG")
    ffmpeg("-i", drawn, *options, path)
    return path


def cut(path: Path, share: float) -> Path:
    """The file without its end."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def picture(path: Path, image: np.ndarray = SCENE) -> Path:
    """An image file in the format of its suffix."""
    if not cv2.haveImageWriter(str(path)):  # GIF and AVIF since OpenCV 4.12
        pytest.skip(f"this OpenCV writes no {path.suffix}")
    assert cv2.imwrite(str(path), image)
    return path


def all_from(source: Source) -> list[CapturedFrame]:
    """All frames of a source."""
    reader = source.open()
    pictures = []
    while (found := reader.read()) is not None:
        pictures.append(found)
    reader.close()
    return pictures


def mean_difference(image: Image | None, expected: Image) -> float:
    """Of all pixels and channels."""
    assert image is not None
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    return float(np.abs(image.astype(int) - expected.astype(int)).mean())
