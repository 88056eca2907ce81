"""Files for the tests of outputs, and what FFmpeg finds in the results."""

import json
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from drawing import Image, draw_scene

FACE = (60, 60, 120)
"""x, y and side of a drawn face."""


def make_video(
    path: Path, rate: str = "25", frames: int = 10, size: tuple[int, int] = (320, 240)
) -> Path:
    """A video of one still face, made by the program ffmpeg."""
    still = path.with_suffix(".still.png")
    assert cv2.imwrite(str(still), draw_scene(FACE, size=size))
    command = ["ffmpeg", "-v", "error", "-y", "-loop", "1", "-r", rate, "-i", still, "-frames:v"]
    command += [str(frames), "-c:v", "libx264", "-qp", "1", "-pix_fmt", "yuv444p", path]
    subprocess.run(command, check=True)
    still.unlink()
    return path


def probe(path: Path) -> dict[str, Any]:
    """The first video stream, as ffprobe describes it."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_frames"]
    command += ["-show_streams", "-of", "json", str(path)]
    done = subprocess.run(command, check=True, capture_output=True)
    (stream,) = json.loads(done.stdout)["streams"]
    return dict(stream)


def rate_of(path: Path) -> Fraction:
    return Fraction(probe(path)["avg_frame_rate"])


def times_of(path: Path) -> list[float]:
    """The times of all frames, in seconds."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0"]
    command += ["-show_entries", "packet=pts_time", "-of", "csv=p=0", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return sorted(float(line.strip(",")) for line in done.stdout.split())


def frames_of(path: Path) -> list[Image]:
    """All frames, decoded by the program ffmpeg: BGR uint8 [H, W, 3] each."""
    stream = probe(path)
    width, height = stream["width"], stream["height"]
    command = ["ffmpeg", "-v", "error", "-i", path, "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    done = subprocess.run(command, check=True, capture_output=True)
    return list(np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3))
