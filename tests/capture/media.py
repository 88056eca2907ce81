"""Videos of a drawn face, as ffmpeg writes them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from drawing import draw_scene, write_clip

FRAMES = 40
FPS = 10
SCENES = [draw_scene((2 * step, 60, 120)) for step in range(FRAMES)]

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
