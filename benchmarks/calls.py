"""Calls of the daemon's Python functions for each frame, and the files that a frame passes.

Run as a program, it prints them for one clip, the most frequent functions last:

    python -m benchmarks.calls CLIP
"""

import argparse
import contextlib
import os
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import edge_daemon
from benchmarks.cases import Case
from benchmarks.settings import settings_of
from edge_daemon._lib.clock import SystemClock
from edge_daemon._lib.files import bundled_models
from edge_daemon.capture import CapturedFrame, Reader, Source, source_from_settings
from edge_daemon.daemon import build_pipeline
from edge_daemon.errors import SourceError

PACKAGE: Final = Path(edge_daemon.__file__).parent

FRAMES: Final = 18
"""Measured by default; a second run has twice as many. The difference is what frames cost, without
the start and the end."""


@dataclass(frozen=True)
class Calls:
    """Calls for each frame."""

    functions: dict[str, float]
    """By `file:function`."""

    @property
    def total(self) -> float:
        return sum(self.functions.values())

    @property
    def files(self) -> frozenset[str]:
        """Files with at least one call in every second frame."""
        return frozenset(name.partition(":")[0] for name, n in self.functions.items() if n >= 0.5)


def measure(clip: Path, frames: int = FRAMES, interval: int | None = None) -> Calls:
    """Count the calls of a run over a clip, with the bundled models and JSON lines.

    Args:
        clip: a video with at least twice so many frames.
        frames: how many to measure.
        interval: of the detection, in frames; None: the default.
    """
    case = Case(
        clip=str(clip),
        detector="bundled",
        bundle=str(bundled_models()),
        threads=1,
        frames=frames,
        warmup=0,
        every=interval,
    )
    once, twice = _counted(case, frames), _counted(case, 2 * frames)
    difference = {name: (twice[name] - once[name]) / frames for name in twice}
    return Calls({name: n for name, n in difference.items() if n > 0})


def _counted(case: Case, frames: int) -> Counter[str]:
    """Calls in a run over the first frames, by function."""
    counters: list[Counter[CodeType]] = []
    own = threading.local()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event != "call":
            return
        if not hasattr(own, "counter"):
            own.counter = Counter()
            counters.append(own.counter)
        own.counter[frame.f_code] += 1

    settings = settings_of(case)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        ExitStack() as resources,
    ):
        source = _Shortened(source_from_settings(settings), frames)
        pipeline = build_pipeline(settings, SystemClock(), resources, source=source)
        threading.setprofile(count)
        try:
            pipeline.run()
        finally:
            threading.setprofile(None)
    calls: Counter[str] = Counter()
    for counter in counters:
        for code, number in counter.items():
            path = Path(code.co_filename)
            if path.is_relative_to(PACKAGE):
                calls[f"{path.relative_to(PACKAGE)}:{code.co_qualname}"] += number
    return calls


class _Shortened:
    """A source that ends after some frames."""

    is_live = False

    def __init__(self, source: Source, frames: int) -> None:
        self.name = source.name
        self.kind = source.kind
        self._source = source
        self._frames = frames

    def open(self) -> "_ShortenedReader":
        return _ShortenedReader(self._source.open(), self._frames)


class _ShortenedReader:
    def __init__(self, reader: Reader, frames: int) -> None:
        self.close = reader.close
        self._reader = reader
        self._left = frames

    def read(self) -> CapturedFrame | None:
        if self._left == 0:
            return None
        self._left -= 1
        captured = self._reader.read()
        if captured is None:
            raise SourceError("the clip is too short; choose fewer --frames")
        return captured


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__)
    parser.add_argument("clip", type=Path, help="a video with faces", metavar="CLIP")
    parser.add_argument("--frames", type=int, default=FRAMES, help="to measure (%(default)s)")
    parser.add_argument("--interval", type=int, help="frames from one detection to the next")
    options = parser.parse_args()
    try:
        calls = measure(options.clip, options.frames, options.interval)
    except SourceError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    for name, number in sorted(calls.functions.items(), key=lambda pair: pair[1]):
        print(f"{number:8.2f}  {name}")
    print(f"{calls.total:8.1f}  calls a frame, in {len(calls.files)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
