"""A loop over a clip's frames, timed: for contestants that are one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2

from benchmarks.cases import Case, Round


def images(clip: str) -> Iterator[Any]:
    """The images of a clip, BGR uint8 [H, W, 3].

    Raises:
        OSError: there are none.
    """
    capture = cv2.VideoCapture(clip)
    is_read, image = capture.read()
    if not is_read:
        raise OSError(f"{clip}: not a video that can be read")
    while is_read:
        yield image
        is_read, image = capture.read()


def played(clip: str) -> Iterator[Any]:
    """Its frames, repeatedly from the start."""
    while True:
        yield from images(clip)


def timed(case: Case, work: Callable[[Any], int]) -> Round:
    """Decode the case's frames and do the work with each, which returns the number of faces."""
    frames = played(case.clip)
    for _ in range(case.warmup):
        work(next(frames))
    wall, processor = time.perf_counter(), time.process_time()
    faces = sum(work(next(frames)) for _ in range(case.frames))
    return Round(
        frames=case.frames,
        faces=faces,
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - processor,
    )
