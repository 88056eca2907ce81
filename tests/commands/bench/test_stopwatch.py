import itertools

import numpy as np
import pytest
from builders import probabilities, result

from edge_daemon.capture import Picture
from edge_daemon.commands.bench.report import Report
from edge_daemon.commands.bench.stopwatch import Stopwatch
from edge_daemon.errors import SettingsError


class Recording:
    """A source of three pictures, of which none is read in vain."""

    name = "recording"
    live = False

    def open(self) -> "Recording":
        self._left = 3
        return self

    def read(self) -> Picture | None:
        self._left -= 1
        return Picture(np.zeros((2, 2, 3), np.uint8)) if self._left >= 0 else None

    def close(self) -> None:
        pass


def ticking() -> Stopwatch:
    """A stopwatch whose clocks move on by one second, and by two, whenever they are read."""
    return Stopwatch(None, itertools.count(1.0).__next__, itertools.count(1.0, 2.0).__next__)


def test_each_stage_and_each_reading_is_timed_and_all_steps_are_done() -> None:
    stopwatch = ticking()
    reader = stopwatch.source(Recording()).open()
    stages = stopwatch.stages(
        [
            ("first", [lambda number: number + 1, lambda number: 10 * number]),
            ("last", [lambda number: result(number, {1: probabilities(happy=0.5), 2: None})]),
        ]
    )
    (first, *_), (see, *_) = stages[0][1], stages[1][1]
    assert first(1) == 20
    assert see(result(0.0, {1: None})).faces[0].track_id == 1
    while reader.read() is not None:
        pass
    assert stopwatch.seconds["first"] == [1.0]
    assert stopwatch.seconds["capture"] == [1.0] * 4
    assert stopwatch.seen[0].faces == 1


def run_of(frames: int) -> Stopwatch:
    """Frames that take one second in a stage, three in all, and two of the processor."""
    stopwatch = ticking()
    stopwatch.seconds["capture"] = [0.5] * frames
    ((_, steps),) = stopwatch.stages([("only", [lambda it: it])])
    for number in range(frames):
        item = result(float(number), {1: probabilities(happy=0.5)} if number else {})
        for step in steps:
            item = step(item)
    return stopwatch


def report_of(warmup: int) -> Report:
    return Report.of(run_of(5), warmup, source="clip", detector="haar", threads=1)


def test_frames_that_warm_up_do_not_count() -> None:
    everything, warm = report_of(0), report_of(1)
    assert (everything.frames, everything.faces) == (5, 0.8)
    assert (warm.frames, warm.faces, warm.members) == (4, 1.0, 1)
    assert (warm.width, warm.height) == (320, 240)
    assert warm.fps == pytest.approx(1 / 3, abs=0.01)
    assert warm.cpu_ms == 2000
    assert warm.stages["capture"].p50_ms == 500
    assert warm.stages["only"].p50_ms == warm.stages["only"].p95_ms == 1000


def test_nothing_but_warming_up_is_refused() -> None:
    with pytest.raises(SettingsError, match="clip has 5 frames"):
        report_of(5)
