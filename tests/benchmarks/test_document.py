from datetime import UTC, datetime

from benchmarks.document import sections, table, updated
from benchmarks.results import Comparison, Comparisons, Figures, Linearity, Results, Stamp
from benchmarks.targets import targets

STAMP = Stamp(
    time=datetime(2026, 1, 1, tzinfo=UTC), commit="abc", processor="Abacus", cores=2, load=0.0
)


def figures(cpu_ms: float = 4.0, fps: float = 250.0) -> Figures:
    return Figures(fps=fps, cpu_ms=cpu_ms, faces=2.0)


def comparison(over_kernels: float, over_fer: float | None, faces: int | None = None) -> Comparison:
    return Comparison(
        clip="clip",
        faces=faces,
        detector="haar",
        members=3,
        threads=1,
        pipeline=figures(fps=200.0),
        every_frame=figures(fps=150.0),
        kernels=figures(),
        fer=None if over_fer is None else figures(),
        over_kernels=over_kernels,
        over_fer=over_fer,
    )


def comparisons(*lines: Comparison) -> Results:
    return Results(
        comparisons=Comparisons(stamp=STAMP, rounds=1, frames=1, all_members=3, lines=lines)
    )


def linearity(r_squared: float) -> Results:
    return Results(
        linearity=Linearity(
            stamp=STAMP,
            rounds=1,
            detector="haar",
            members=3,
            cpu_ms={1: 2.0, 2: 3.0},
            slope=1.0,
            intercept=1.0,
            r_squared=r_squared,
        )
    )


def test_part_is_written_between_its_marks() -> None:
    page = "a\n<!-- linearity -->\nold\n<!-- /linearity -->\nb\n<!-- models -->\nkept\n"
    text = updated(page, sections(linearity(1.0)))
    assert text.startswith("a\n<!-- linearity -->\n| faces | 1 | 2 |\n")
    assert text.endswith("\n<!-- /linearity -->\nb\n<!-- models -->\nkept\n")
    assert "old" not in text
    assert updated(text, sections(linearity(1.0))) == text


def test_page_without_marks_stays_as_it_is() -> None:
    assert updated("no marks\n", sections(linearity(1.0))) == "no marks\n"


def test_only_measured_parts_have_sections() -> None:
    assert set(sections(linearity(1.0))) == {"targets", "linearity"}
    assert sections(Results()) == {}


def test_columns_of_figures_stand_to_the_right() -> None:
    assert table(("a", "b:"), [("x", 1)]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_line_with_kernels() -> None:
    text = sections(comparisons(comparison(1.1, None)))["comparisons"]
    assert "| clip | haar | 3 | 1 | 2.0 | 150 | 4.00 | 2.00 | 4.00 | 1.10 |\n" in text
    assert "fer" not in text


def test_line_with_fer() -> None:
    text = sections(comparisons(comparison(1.1, 3.5)))["comparisons"]
    ours, theirs = "2.0 | 200 | 4.00 | 2.00", "2.0 | 250 | 4.00 | 2.00"
    assert f"| clip | haar | 3 | 1 | {ours} | {theirs} | 3.50 |\n" in text


def test_worst_line_decides_a_target() -> None:
    kernels, fer = targets(comparisons(comparison(1.1, 3.5), comparison(1.2, 2.9)))
    assert (kernels.met, kernels.measured) == (False, "1.10 to 1.20; 1 of 2 within")
    assert (fer.met, fer.measured) == (False, "2.90 to 3.50")
    kernels, fer = targets(comparisons(comparison(1.15, 3.0), comparison(1.0, 4.0)))
    assert kernels.met
    assert fer.met


def test_fer_is_compared_on_clips_as_they_are() -> None:
    kernels, fer = targets(comparisons(comparison(1.0, 3.5), comparison(1.0, 1.0, faces=4)))
    assert kernels.met
    assert (fer.met, fer.measured) == (True, "3.50 to 3.50")


def test_line_must_fit() -> None:
    assert [
        target.met for r_squared in (0.98, 0.995) for target in targets(linearity(r_squared))
    ] == [
        False,
        True,
    ]
