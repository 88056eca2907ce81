"""Chance, told as a probability."""

import numpy as np


def happens(chance: float, rng: np.random.Generator) -> bool:
    """Whether what has this chance, 0 to 1, happens this time."""
    return float(rng.random()) < chance


def pick(count: int, rng: np.random.Generator) -> int:
    """One of so many, counted from 0."""
    return int(rng.integers(count))
