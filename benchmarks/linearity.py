"""What each further face costs the pipeline."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.arithmetic import line_through
from benchmarks.comparison import Plan
from benchmarks.progress import report
from benchmarks.results import Linearity, Stamp
from benchmarks.workers import Contestant


def measure(
    scenes: Mapping[int, Path], plan: Plan, pipeline: Contestant, detector: str
) -> Linearity:
    """The cost of a frame by its number of faces, with all members and one thread.

    Faces are looked for in every frame: the more there are, the sooner one of them would have it
    done anyway.
    """
    stamp = Stamp.of_now()
    members = max(plan.bundles)
    cpu_times: dict[int, list[float]] = {faces: [] for faces in scenes}
    for number in range(plan.rounds):
        for faces, clip in scenes.items():
            report(f"{faces} faces: round {number + 1} of {plan.rounds}")
            case = replace(plan.case(clip, detector, members, threads=1), every=1)
            cpu_times[faces].append(pipeline(case).cpu_ms)
    cpu_ms = {faces: round(median(rounds), 3) for faces, rounds in cpu_times.items()}
    line = line_through(list(cpu_ms.keys()), list(cpu_ms.values()))
    return Linearity(
        stamp=stamp,
        rounds=plan.rounds,
        detector=detector,
        members=members,
        cpu_ms=cpu_ms,
        slope=round(line.slope, 3),
        intercept=round(line.intercept, 3),
        r_squared=round(line.r_squared, 4),
    )
