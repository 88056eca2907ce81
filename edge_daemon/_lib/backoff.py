"""How long to wait before trying again."""

import itertools
import random
from collections.abc import Iterator
from typing import Final

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
"""Seconds: the bound on the delay doubles from the first to the longest."""


def backoff_delays(first: float = FIRST_DELAY, longest: float = LONGEST_DELAY) -> Iterator[float]:
    """Seconds to wait before each attempt: exponential, with full jitter.

    The jitter keeps many devices that lost the same thing from coming back in step.
    """
    for attempt in itertools.count():
        bound = min(longest, first * 2 ** min(attempt, 16))
        yield random.uniform(0.0, bound)  # noqa: S311  # no secret depends on it
