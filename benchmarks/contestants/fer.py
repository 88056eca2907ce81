"""The PyPI package `fer` as it comes: OpenCV's cascade and its quantised TFLite model.

Its `detect_emotions` is all that is asked of it for each decoded frame; what its `Video` class
does beyond that, such as writing tables, is left out. Of threads it lets only OpenCV's be chosen.
"""

import logging
from functools import cache
from typing import Any

import cv2

from benchmarks.cases import Case, Round
from benchmarks.contestants.timing import timed


def measure(case: Case) -> Round:
    cv2.setNumThreads(case.threads)
    detect = _peer().detect_emotions
    return timed(case, lambda image: len(detect(image)))


@cache
def _peer() -> Any:  # noqa: ANN401  # a library without types
    from fer.fer import FER

    logging.getLogger("fer").setLevel(logging.ERROR)
    return FER()
