"""The command `python -m benchmarks`: measures what its options allow, and prints it."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks import anytime, comparison, document, following, linearity, models, steadiness
from benchmarks.bundles import first_members
from benchmarks.comparison import Group, Plan
from benchmarks.expectation import expectation
from benchmarks.plot import can_plot, write_anytime
from benchmarks.progress import report
from benchmarks.results import Results
from benchmarks.scenes import MAX_FACES, write_scenes
from benchmarks.workers import contestant
from edge_daemon._lib.files import bundled_models
from edge_daemon.config.settings import DetectorName
from edge_daemon.detection import Detector, create_detector
from edge_daemon.errors import EdgeDaemonError, SettingsError
from edge_daemon.inference.bundle import read_bundle

PARTS: Final = ("comparisons", "models", "following", "linearity", "steadiness", "anytime")
DETECTORS: Final[tuple[DetectorName, ...]] = ("bundled", "yunet", "haar")
DEFAULT: Final = DETECTORS[0]

KEPT: Final = "performance.json"
"""The file of the results, next to the document."""

MIN_SCORE: Final = 0.7
MIN_SIZE: Final = 24
"""Of a face, where faces for scenes are looked for; as the daemon's defaults."""


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    try:
        # Before what takes long: what is kept may be of another form.
        before = Results() if options.docs is None else Results.read(options.docs / KEPT)
        measured = _measure(options)
    except (EdgeDaemonError, OSError) as error:
        print(f"\nbenchmarks: {error}", file=sys.stderr)
        return 1
    report("")
    if options.docs is not None:
        _update(options.docs, before, measured)
    results = Results(**measured)
    texts = document.sections(results).values()
    print(results.model_dump_json() if options.json else "\n\n".join(texts))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--clips", type=Path, nargs="+", default=[], help="videos with faces", metavar="FILE")
    add("--yunet", type=Path, help="the YuNet detector's file; else it is left out", metavar="FILE")
    add("--fer", help="an environment's Python with `fer`; else it is left out", metavar="PYTHON")
    add("--data", type=Path, help="FER2013 as sheets, for the accuracy", metavar="FOLDER")
    add("--minutes", type=float, default=10.0, help="of the steadiness (%(default)s)")
    add("--rounds", type=int, default=5, help="turns of each contestant (%(default)s)")
    add("--frames", type=int, default=60, help="in each turn (%(default)s)")
    add("--warmup", type=int, default=10, help="frames before those (%(default)s)")
    add("--detectors", nargs="+", choices=DETECTORS, default=DETECTORS, help="which (all)")
    add("--threads", type=int, nargs="+", default=[1, 2], help="of all kernels (1 2)")
    add("--faces", type=int, nargs="+", default=[1, 4, 8], help="a composed frame (1 4 8)")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all)")
    add("--json", action="store_true", help="print one JSON object")
    add("--docs", type=Path, help="bring performance.md in it up to date", metavar="FOLDER")
    return parser


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """The selected parts whose inputs are available, by name."""
    parts = set(options.parts)
    if not options.clips:
        parts -= {"comparisons", "following", "linearity", "steadiness"}
    if options.data is None:
        parts.discard("anytime")
    if not parts:
        raise SettingsError("nothing to measure: name --clips, or --data")
    if options.docs is not None and "anytime" in parts and not can_plot():
        raise SettingsError("no matplotlib for the curve: see benchmarks/requirements.txt")
    measured: dict[str, Any] = {}
    if parts & {"comparisons", "linearity"}:
        measured |= _run_contest(options, parts)
    if "following" in parts:
        measured["following"] = following.measure(options.clips, bundled_models(), DEFAULT)
    if "models" in parts:
        peer = None if options.fer is None else models.fer_model_of(options.fer)
        measured["models"] = models.measure(bundled_models(), peer, options.rounds)
    if "anytime" in parts:
        measured["anytime"] = anytime.measure(bundled_models(), options.data, options.rounds)
    if "steadiness" in parts:
        measured["steadiness"] = steadiness.measure(options.clips[0], options.minutes)
    return measured


def _run_contest(options: argparse.Namespace, parts: set[str]) -> dict[str, Any]:
    """What is measured of the contestants, on the clips and on scenes made of them."""
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory()))
        every = range(1, MAX_FACES + 1) if "linearity" in parts else ()
        scenes = write_scenes(
            options.clips, _detectors(options), sorted({*options.faces, *every}), folder
        )
        plan = _plan(options, folder)
        pipeline = resources.enter_context(contestant("pipeline", sys.executable))
        measured: dict[str, Any] = {}
        if "comparisons" in parts:
            kernels = resources.enter_context(contestant("kernels", sys.executable))
            fer = resources.enter_context(contestant("fer", options.fer)) if options.fer else None
            groups = _groups(options, scenes, max(plan.bundles))
            measured["comparisons"] = comparison.compare(groups, plan, pipeline, kernels, fer)
        if "linearity" in parts:
            line = {faces: scenes[faces] for faces in every}
            measured["linearity"] = linearity.measure(line, plan, pipeline, DEFAULT)
    return measured


def _names(options: argparse.Namespace) -> list[DetectorName]:
    names: Sequence[DetectorName] = options.detectors
    return [name for name in names if name != "yunet" or options.yunet is not None]


def _detectors(options: argparse.Namespace) -> list[Detector]:
    unfetched = Path()
    return [
        create_detector(
            name,
            options.yunet if name == "yunet" else None,
            unfetched,
            MIN_SCORE,
            MIN_SIZE,
        )
        for name in _names(options)
    ]


def _plan(options: argparse.Namespace, folder: Path) -> Plan:
    whole = len(read_bundle(bundled_models()).members)
    bundles = {
        count: first_members(bundled_models(), count, folder / f"members-{count}")
        for count in sorted({1, whole})
    }
    return Plan(bundles, options.yunet, options.rounds, options.frames, options.warmup)


def _groups(options: argparse.Namespace, scenes: dict[int, Path], all_members: int) -> list[Group]:
    """The clips as they are with all members, and the scenes with one member and with all."""
    names = _names(options)
    whole = tuple((name, all_members) for name in names)
    each = tuple((name, members) for name in names for members in sorted({1, all_members}))
    return [
        *(Group(clip, None, 1, whole) for clip in options.clips),
        *(
            Group(scenes[faces], faces, threads, each)
            for faces in options.faces
            for threads in options.threads
        ),
    ]


def _update(folder: Path, before: Results, measured: dict[str, Any]) -> None:
    """Bring the document up to date; parts that were not measured now stay as they were."""
    page = folder / "performance.md"
    results = before.model_copy(update=measured)
    results.write(folder / KEPT)
    parts = document.sections(results) | {"expectation": expectation()}
    page.write_text(document.updated(page.read_text(encoding="utf-8"), parts), encoding="utf-8")
    if "anytime" in measured:
        write_anytime(measured["anytime"], folder / "anytime.svg")


if __name__ == "__main__":
    sys.exit(main())
