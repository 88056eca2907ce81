"""Delays before retries."""

import itertools
import random
from collections.abc import Iterator
from typing import Final

FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 30.0
"""The bound on the delay doubles from the first to the maximum."""


def backoff_delays(first_s: float = FIRST_DELAY_S, max_s: float = MAX_DELAY_S) -> Iterator[float]:
    """Seconds to wait before each attempt: exponential, with full jitter.

    The jitter keeps devices that lost the same service from reconnecting at the same time.
    """
    for attempt in itertools.count():
        bound = min(max_s, first_s * 2 ** min(attempt, 16))
        yield random.uniform(0.0, bound)  # noqa: S311  # no secret depends on it
