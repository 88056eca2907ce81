"""The benchmarks' own arithmetic."""

from collections.abc import Sequence
from statistics import correlation, linear_regression, median
from typing import NamedTuple


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ratios of rounds that ran in turns.

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
    """The line of least squares.

    Raises:
        StatisticsError: all points have the same x, or the same y.
    """
    slope, intercept = linear_regression(x, y)
    return Line(slope, intercept, correlation(x, y) ** 2)


def growth(before: float, after: float) -> float:
    """By which part of itself something grew."""
    return after / before - 1
