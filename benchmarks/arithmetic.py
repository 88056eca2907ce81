"""The benchmarks' own arithmetic."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of what rounds that ran side by side say.

    A machine that is slower for a while is so for both, so each round's ratio is better than that
    of two medians.
    """
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


class Line(NamedTuple):
    """A straight line through points, and how well it fits."""

    slope: float
    intercept: float
    r_squared: float
    """The part of the variance that the line explains, 0 to 1."""


def line_through(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line of least squares."""
    mean_x, mean_y = fmean(x), fmean(y)
    spread = sum((value - mean_x) ** 2 for value in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    intercept = mean_y - slope * mean_x
    total = sum((value - mean_y) ** 2 for value in y)
    left = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return Line(slope, intercept, 1 - left / total if total else 1.0)


def growth(before: float, after: float) -> float:
    """By which part of itself something grew."""
    return after / before - 1
