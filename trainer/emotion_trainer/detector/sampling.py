"""Sampling helpers."""

import math

import numpy as np


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Draw whether an event of this probability, 0 to 1, happens."""
    return float(rng.random()) < probability


def pick(count: int, rng: np.random.Generator) -> int:
    """Draw an index below `count`."""
    return int(rng.integers(count))


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw a number whose logarithm is uniform: each octave is equally likely."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
