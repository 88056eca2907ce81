"""Results as Markdown: on the terminal, and between the marks of a document."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from benchmarks.results import (
    Anytime,
    Comparison,
    Comparisons,
    Figures,
    Following,
    Linearity,
    Models,
    Results,
    Stamp,
    Steadiness,
)
from benchmarks.targets import targets

CHOICE: Final = ("clip", "detector", "members:", "threads:")
FIGURES: Final = ("faces:", "fps:", "CPU ms:", "a face:")
KERNELS: Final = (*FIGURES, "kernels' CPU ms:", "pipeline / kernels:")
FER: Final = (*FIGURES, *(f"fer's {name}" for name in FIGURES[:-1]), "a face:", "fps / fer's:")


def sections(results: Results) -> dict[str, str]:
    """The parts that were measured, by name."""
    parts = {
        "targets": _targets(results),
        "comparisons": results.comparisons and _comparisons(results.comparisons),
        "models": results.models and _models(results.models),
        "following": results.following and _following(results.following),
        "linearity": results.linearity and _linearity(results.linearity),
        "steadiness": results.steadiness and _steadiness(results.steadiness),
        "anytime": results.anytime and _anytime(results.anytime),
    }
    return {name: text for name, text in parts.items() if text}


def updated(document: str, parts: Mapping[str, str]) -> str:
    """The document, with these parts between their marks.

    A part begins at `<!-- NAME -->` and ends at `<!-- /NAME -->`; what has no marks is left out.
    """
    for name, text in parts.items():
        before, begin, rest = document.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if end:
            document = f"{before}{begin}{text}\n{end}{after}"
    return document


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; columns are to the right where their heads end in a colon."""
    alignment = ["---:" if name.endswith(":") else "---" for name in head]
    names = [name.removesuffix(":") for name in head]
    lines = [names, alignment, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _targets(results: Results) -> str:
    rows = [
        (target.what, target.bound, target.measured, "yes" if target.met else "**no**")
        for target in targets(results)
    ]
    return table(("figure", "target", "measured", "met"), rows) if rows else ""


def _comparisons(comparisons: Comparisons) -> str:
    with_fer = [line for line in comparisons.lines if line.fer is not None]
    tables = [table((*CHOICE, *KERNELS), map(_with_kernels, comparisons.lines))]
    if with_fer:
        tables.append(table((*CHOICE, *FER), map(_with_fer, with_fer)))
    how = f"{comparisons.rounds} rounds of {comparisons.frames} frames, medians"
    return _stamped(comparisons.stamp, how, "\n\n".join(tables))


def _choice(line: Comparison) -> Sequence[object]:
    return line.clip, line.detector, line.members, line.threads


def _with_kernels(line: Comparison) -> Sequence[object]:
    return (
        *_choice(line),
        *_figures(line.every_frame),
        f"{line.kernels.cpu_ms:.2f}",
        f"{line.over_kernels:.2f}",
    )


def _with_fer(line: Comparison) -> Sequence[object]:
    figures = () if line.fer is None else _figures(line.fer)
    return (*_choice(line), *_figures(line.pipeline), *figures, f"{line.over_fer:.2f}")


def _figures(figures: Figures) -> Sequence[str]:
    a_face = f"{figures.cpu_ms / figures.faces:.2f}" if figures.faces else ""
    return f"{figures.faces:.1f}", f"{figures.fps:.0f}", f"{figures.cpu_ms:.2f}", a_face


def _models(models: Models) -> str:
    rows = [
        (
            f"`{model.name}`" if model.name != "fer" else "fer's",
            f"{model.ms:.3f}",
            "" if model.over_fer is None else f"{model.over_fer:.2f}",
        )
        for model in models.models
    ]
    return _stamped(
        models.stamp,
        f"{models.rounds} rounds, one thread, one face at a time",
        table(("model", "CPU ms a face:", "/ fer's:"), rows),
    )


def _following(following: Following) -> str:
    head = ("interval", "detected:", "CPU ms a frame:", "faces:", "displaced:", "same emotion:")
    rows = [
        (
            point.every,
            f"{100 * point.looks:.0f} %",
            f"{point.cpu_ms:.2f}",
            point.faces,
            f"{100 * point.displacement:.1f} %",
            f"{100 * point.agreement:.1f} %",
        )
        for point in following.points
    ]
    how = f"{following.frames} frames, {following.detector} detector, one thread"
    return _stamped(following.stamp, how, table(head, rows))


def _linearity(linearity: Linearity) -> str:
    head = ("faces", *(f"{faces}:" for faces in linearity.cpu_ms))
    row = ("CPU ms a frame", *(f"{ms:.2f}" for ms in linearity.cpu_ms.values()))
    line = (
        f"The line through them: {linearity.intercept:.2f} ms + {linearity.slope:.3f} ms a face, "
        f"R² {linearity.r_squared:.4f}."
    )
    return _stamped(
        linearity.stamp,
        f"{linearity.rounds} rounds, {linearity.detector} detector, "
        f"members {linearity.members}, one thread",
        table(head, [row]) + "\n\n" + line,
    )


def _steadiness(steadiness: Steadiness) -> str:
    head = ("part:", "frames:", "memory, MB:", "latency, ms:", "CPU ms a frame:")
    rows = [
        (number, it.frames, f"{it.rss_mb:.1f}", f"{it.latency_ms:.2f}", f"{it.cpu_ms:.2f}")
        for number, it in enumerate(steadiness.minutes, 1)
    ]
    return _stamped(
        steadiness.stamp, f"parts of {steadiness.seconds:.0f} s, medians", table(head, rows)
    )


def _anytime(anytime: Anytime) -> str:
    members = table(
        ("members:", "MMAC a face:", "CPU ms a face:", "accuracy:"),
        (
            (it.members, f"{it.mmac:.1f}", f"{it.ms:.3f}", f"{100 * it.accuracy:.1f} %")
            for it in anytime.members
        ),
    )
    budgets = table(
        ("budget, ms:", "members used:", "CPU ms a face:", "accuracy:"),
        (
            (
                f"{it.budget_ms:.2f}",
                f"{it.members:.2f}",
                f"{it.ms:.3f}",
                f"{100 * it.accuracy:.1f} %",
            )
            for it in anytime.budgets
        ),
    )
    of = f"{anytime.faces:,} faces of PublicTest, one a frame, one thread"
    return _stamped(anytime.stamp, of, members + "\n\n" + budgets)


def _stamped(stamp: Stamp, how: str, text: str) -> str:
    where = f"{stamp.processor}, {stamp.cores} cores"
    return (
        f"{text}\n\n"
        f"*{how}; commit `{stamp.commit}`, {stamp.time:%Y-%m-%d}, {where}, "
        f"load {stamp.load:.1f} before.*"
    )
