import itertools

import numpy as np
import pytest
from builders import probabilities, result

from edge_daemon.capture import Picture
from edge_daemon.commands.bench import Report, Stopwatch, TimedSource
from edge_daemon.errors import SettingsError


class Recording:
    """A source of three pictures."""

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
    """A stopwatch whose clocks advance by one and two seconds at each reading."""
    return Stopwatch(itertools.count(1.0).__next__, itertools.count(1.0, 2.0).__next__)


def test_stopwatch_measures_reads_stages_and_frames() -> None:
    stopwatch = ticking()
    reader = TimedSource(Recording(), stopwatch).open()
    while reader.read() is not None:
        pass
    stopwatch.record("first", 0.25)
    stopwatch.finish(result(0.0, {1: None}))
    assert stopwatch.seconds == {"capture": [1.0] * 4, "first": [0.25]}
    assert stopwatch.frames[0].faces == 1
    assert len(stopwatch.finished) == 2


def run_of(frames: int) -> Stopwatch:
    """Frames that take one second in a stage, and two seconds of the processor."""
    stopwatch = ticking()
    stopwatch.seconds["capture"] = [0.5] * frames
    for number in range(frames):
        stopwatch.record("only", 0.75)
        stopwatch.finish(result(float(number), {1: probabilities(happy=0.5)} if number else {}))
    return stopwatch


def report_of(warmup: int) -> Report:
    return Report.of(run_of(5), warmup, source="clip", detector="haar", threads=1)


def test_report_leaves_out_the_warmup() -> None:
    everything, warm = report_of(0), report_of(1)
    assert (everything.frames, everything.faces) == (5, 0.8)
    assert (warm.frames, warm.faces, warm.members) == (4, 1.0, 1)
    assert (warm.width, warm.height) == (320, 240)
    assert warm.fps == pytest.approx(1.0, abs=0.01)
    assert warm.cpu_ms == 2000
    assert warm.stages["capture"].p50_ms == 500
    assert warm.stages["only"].p50_ms == warm.stages["only"].p95_ms == 750


def test_report_of_warmup_alone_is_refused() -> None:
    with pytest.raises(SettingsError, match="takes all 5 frames of clip"):
        report_of(5)
