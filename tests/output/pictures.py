"""Makes the pictures of docs/output.md, of people who are drawn:

python tests/output/pictures.py
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
from drawing import write_clip
from output.media import frames_of
from preview.portraits import FPS, SIZE, draw_people

from edge_daemon.cli import main

DOCS = Path(__file__).parents[2] / "docs"

SECONDS = 30
MOOD_S = 5.0
"""How long each expression lasts."""

ABSENT_S = ((0.0, 4.0), (13.0, 18.0))
"""When the person on the right is not there."""

PICTURE_S = 8.0
"""Time of the frame that is shown."""


def write_visits(path: Path) -> None:
    """A clip in which one person stays, and another comes twice."""
    scenes = []
    for number in range(round(SECONDS * FPS)):
        time = number / FPS
        scene = draw_people(time, MOOD_S)
        if any(start <= time < end for start, end in ABSENT_S):
            middle = SIZE[0] // 2
            scene[:, middle:] = scene[:, -1:]
        scenes.append(scene)
    write_clip(path, scenes, FPS)


def make_pictures(folder: Path) -> int:
    clip, annotated = folder / "people.mp4", folder / "annotated.mp4"
    write_visits(clip)
    outputs = ["--output", str(annotated), "--summary", str(DOCS / "summary.png")]
    code = main(["run", str(clip), *outputs, "--summary-thumbnails", "--log-level", "warning"])
    frame = frames_of(annotated)[round(PICTURE_S * FPS)]
    cv2.imwrite(str(DOCS / "annotated.jpg"), frame, (cv2.IMWRITE_JPEG_QUALITY, 88))
    return code


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.exit(make_pictures(Path(name)))
