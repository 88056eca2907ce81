"""Sampling helpers."""

import numpy as np


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Draw whether an event of this probability, 0 to 1, happens."""
    return float(rng.random()) < probability


def pick(count: int, rng: np.random.Generator) -> int:
    """Draw an index below `count`."""
    return int(rng.integers(count))
