"""The pipeline compared with its bare kernels and with fer, on the same frames, in turns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from benchmarks.arithmetic import median_ratio
from benchmarks.cases import Case, Round
from benchmarks.progress import report
from benchmarks.results import Comparison, Comparisons, Figures, Stamp
from benchmarks.workers import Contestant


@dataclass(frozen=True)
class Group:
    """Choices that run side by side on one clip."""

    clip: Path
    faces: int | None
    threads: int
    choices: tuple[tuple[str, int], ...]
    """Detectors, and the number of members that run."""


@dataclass(frozen=True)
class Plan:
    """How much is run.

    Args:
        bundles: the bundle of the first members, by their number.
        yunet: the file of that detector.
        rounds: of each contestant; they take turns.
        frames: measured in each round.
        warmup: frames before those.
    """

    bundles: Mapping[int, Path]
    yunet: Path | None
    rounds: int
    frames: int
    warmup: int

    def case(self, clip: Path, detector: str, members: int, threads: int) -> Case:
        return Case(
            clip=str(clip.resolve()),
            detector=detector,
            bundle=str(self.bundles[members]),
            threads=threads,
            frames=self.frames,
            warmup=self.warmup,
            yunet=None if self.yunet is None else str(self.yunet.resolve()),
        )


def compare(
    groups: Sequence[Group],
    plan: Plan,
    pipeline: Contestant,
    kernels: Contestant,
    fer: Contestant | None,
) -> Comparisons:
    stamp = Stamp.of_now()
    return Comparisons(
        stamp=stamp,
        rounds=plan.rounds,
        frames=plan.frames,
        all_members=max(plan.bundles),
        lines=tuple(
            line for group in groups for line in _compare(group, plan, pipeline, kernels, fer)
        ),
    )


def _compare(
    group: Group, plan: Plan, pipeline: Contestant, kernels: Contestant, fer: Contestant | None
) -> Iterator[Comparison]:
    """One group's lines; everybody has a turn in each round."""
    cases = {choice: plan.case(group.clip, *choice, group.threads) for choice in group.choices}
    turns = {choice: _Turns() for choice in cases}
    theirs: list[Round] = []
    for number in range(plan.rounds):
        report(f"{group.clip.name}, threads {group.threads}: round {number + 1} of {plan.rounds}")
        if fer is not None:
            theirs.append(fer(next(iter(cases.values()))))
        for choice, case in cases.items():
            turns[choice].pipeline.append(pipeline(case))
            turns[choice].every_frame.append(pipeline(replace(case, every=1)))
            turns[choice].kernels.append(kernels(case))
    for choice, rounds in turns.items():
        yield _line(group, choice, rounds, theirs)


@dataclass(frozen=True)
class _Turns:
    """Rounds of one choice, side by side."""

    pipeline: list[Round] = field(default_factory=list)
    every_frame: list[Round] = field(default_factory=list)
    """Of the pipeline, too, with faces looked for in every frame, as the kernels do."""
    kernels: list[Round] = field(default_factory=list)


def _line(
    group: Group, choice: tuple[str, int], ours: _Turns, theirs: Sequence[Round]
) -> Comparison:
    detector, members = choice
    over_kernels = median_ratio(
        [it.cpu_ms for it in ours.every_frame], [it.cpu_ms for it in ours.kernels]
    )
    over_fer = (
        median_ratio([it.fps for it in ours.pipeline], [it.fps for it in theirs])
        if theirs
        else None
    )
    return Comparison(
        clip=group.clip.stem,
        faces=group.faces,
        detector=detector,
        members=members,
        threads=group.threads,
        pipeline=figures(ours.pipeline),
        every_frame=figures(ours.every_frame),
        kernels=figures(ours.kernels),
        fer=figures(theirs) if theirs else None,
        over_kernels=round(over_kernels, 3),
        over_fer=None if over_fer is None else round(over_fer, 2),
    )


def figures(rounds: Sequence[Round]) -> Figures:
    return Figures(
        fps=round(median(it.fps for it in rounds), 1),
        cpu_ms=round(median(it.cpu_ms for it in rounds), 3),
        faces=round(median(it.faces_a_frame for it in rounds), 2),
    )
