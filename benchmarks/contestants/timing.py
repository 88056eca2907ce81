"""A loop over a clip's frames, timed: for contestants that are one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2

from benchmarks.cases import Case, Round


def pictures(clip: str) -> Iterator[Any]:
    """The pictures of a clip, BGR uint8 [H, W, 3].

    Raises:
        OSError: there are none.
    """
    capture = cv2.VideoCapture(clip)
    given, picture = capture.read()
    if not given:
        raise OSError(f"{clip}: not a video that can be read")
    while given:
        yield picture
        given, picture = capture.read()


def played(clip: str) -> Iterator[Any]:
    """Its pictures from the start again and again."""
    while True:
        yield from pictures(clip)


def timed(case: Case, work: Callable[[Any], int]) -> Round:
    """Decode the case's frames and do the work with each, which tells how many faces there were."""
    given = played(case.clip)
    for _ in range(case.warmup):
        work(next(given))
    wall, processor = time.perf_counter(), time.process_time()
    faces = sum(work(next(given)) for _ in range(case.frames))
    return Round(
        frames=case.frames,
        faces=faces,
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - processor,
    )
