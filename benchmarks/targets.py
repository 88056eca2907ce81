"""Targets for the figures, as ratios, so that the machine does not matter."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.results import Comparisons, Linearity, Models, Results, Steadiness

MAX_OVER_KERNELS: Final = 1.15
MIN_OVER_FER: Final = 3.0
MIN_R_SQUARED: Final = 0.99
MAX_GROWTH: Final = 0.02
MAX_DRIFT: Final = 0.1


@dataclass(frozen=True)
class Target:
    """One figure and its bound."""

    what: str
    bound: str
    measured: str
    met: bool


def targets(results: Results) -> list[Target]:
    """Of the parts that were measured."""
    found: list[Target] = []
    if results.comparisons is not None:
        found += _of_comparisons(results.comparisons)
    if results.models is not None:
        found += _of_models(results.models)
    if results.linearity is not None:
        found.append(_of_linearity(results.linearity))
    if results.steadiness is not None:
        found += _of_steadiness(results.steadiness)
    return found


def _of_comparisons(comparisons: Comparisons) -> Iterator[Target]:
    for detector in dict.fromkeys(line.detector for line in comparisons.lines):
        lines = [line for line in comparisons.lines if line.detector == detector]
        worst = max(line.over_kernels for line in lines)
        within = sum(line.over_kernels <= MAX_OVER_KERNELS for line in lines)
        yield Target(
            f"processor time a frame, {detector}: pipeline / bare kernels",
            f"≤ {MAX_OVER_KERNELS} x",
            f"{min(line.over_kernels for line in lines):.2f} to {worst:.2f}; "
            f"{within} of {len(lines)} within",
            worst <= MAX_OVER_KERNELS,
        )
    yield from _of_fer(comparisons)


def _of_fer(comparisons: Comparisons) -> Iterator[Target]:
    """The whole ensemble on clips as they are."""
    whole = [
        line
        for line in comparisons.lines
        if line.faces is None and line.members == comparisons.all_members and line.over_fer
    ]
    for detector in dict.fromkeys(line.detector for line in whole):
        ratios = [line.over_fer or 0.0 for line in whole if line.detector == detector]
        yield Target(
            f"frames a second on the clips, {detector}, all members: pipeline / fer",
            f"≥ {MIN_OVER_FER:.0f} x",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            min(ratios) >= MIN_OVER_FER,
        )


def _of_models(models: Models) -> Iterator[Target]:
    ours = [model for model in models.models if model.over_fer is not None and model.name != "fer"]
    if not ours:
        return
    small = min(ours, key=lambda model: model.ms)
    ratio = small.over_fer or 0.0
    yield Target(
        f"time a face, `{small.name}` / fer's TFLite model", "≤ 1 x", f"{ratio:.2f}", ratio <= 1
    )


def _of_linearity(linearity: Linearity) -> Target:
    return Target(
        "cost linear in faces: R²",
        f"≥ {MIN_R_SQUARED}",
        f"{linearity.r_squared:.4f}",
        linearity.r_squared >= MIN_R_SQUARED,
    )


def _of_steadiness(steadiness: Steadiness) -> Iterator[Target]:
    bounds = (
        ("memory", steadiness.rss_growth, MAX_GROWTH),
        ("latency", steadiness.latency_growth, MAX_DRIFT),
        ("processor time a frame", steadiness.cpu_growth, MAX_DRIFT),
    )
    parts = len(steadiness.minutes)
    for what, growth, bound in bounds:
        yield Target(
            f"{what}, part {parts} / part 2, of {steadiness.seconds:.0f} s each",
            f"< +{100 * bound:.0f} %",
            f"{100 * growth:+.1f} %",
            growth < bound,
        )
