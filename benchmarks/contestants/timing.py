"""A loop over a clip's frames, timed: for contestants that are one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2

from benchmarks.cases import Case, Round


def played(clip: str) -> Iterator[Any]:
    """The pictures of a clip, BGR uint8 [H, W, 3], from its start again and again."""
    while True:
        capture = cv2.VideoCapture(clip)
        given, picture = capture.read()
        while given:
            yield picture
            given, picture = capture.read()


def timed(case: Case, work: Callable[[Any], int]) -> Round:
    """Decode the case's frames and do the work with each, which tells how many faces there were."""
    pictures = played(case.clip)
    for _ in range(case.warmup):
        work(next(pictures))
    wall, processor = time.perf_counter(), time.process_time()
    faces = sum(work(next(pictures)) for _ in range(case.frames))
    return Round(
        frames=case.frames,
        faces=faces,
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - processor,
    )
