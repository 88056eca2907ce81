import itertools
import platform
from pathlib import Path

import numpy as np
import pytest
from builders import probabilities, result

from edge_daemon.capture import CapturedFrame, SourceKind
from edge_daemon.commands.bench import (
    BenchSettings,
    DetectionReport,
    Machine,
    Report,
    Stopwatch,
    TimedSource,
)
from edge_daemon.errors import SettingsError
from edge_daemon.monitoring.hardware import Hardware


class Recording:
    """A source of three pictures."""

    name = "recording"
    kind = SourceKind.VIDEO
    is_live = False

    def open(self) -> "Recording":
        self._left = 3
        return self

    def read(self) -> CapturedFrame | None:
        self._left -= 1
        return CapturedFrame(np.zeros((2, 2, 3), np.uint8)) if self._left >= 0 else None

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
        if number % 3 == 0:
            stopwatch.note_detection()
        stopwatch.record("detection", 0.75 if number % 3 == 0 else 0.25)
        stopwatch.finish(result(float(number), {1: probabilities(happy=0.5)} if number else {}))
    return stopwatch


def report_of(warmup: int) -> Report:
    machine = Machine("board", cores=4, memory_mb=4096, load=0.1)
    settings = BenchSettings("haar", 3, 640, ("a.tflite",), 1)
    return Report.of(run_of(5), warmup, source="clip", machine=machine, settings=settings)


def test_report_leaves_out_the_warmup() -> None:
    everything, warm = report_of(0), report_of(1)
    assert (everything.frames, everything.faces) == (5, 0.8)
    assert (warm.frames, warm.faces, warm.members) == (4, 1.0, 1)
    assert (warm.width, warm.height) == (320, 240)
    assert warm.fps == pytest.approx(1.0, abs=0.01)
    assert warm.cpu_ms == 2000
    assert warm.stages["capture"].p50_ms == 500
    assert warm.stages["detection"].p50_ms == 250
    assert warm.stages["detection"].p95_ms > 500
    assert everything.detection == DetectionReport(share=0.4, with_ms=750, without_ms=250)
    assert warm.detection == DetectionReport(share=0.25, with_ms=750, without_ms=250)


def write_proc(folder: Path, board: str | None, cpu: str | None) -> Path:
    (folder / "meminfo").write_text("MemTotal:        4096000 kB\nMemFree: 1 kB\n")
    if board is not None:
        (folder / "device-tree").mkdir()
        (folder / "device-tree/model").write_text(f"{board}\0")
    if cpu is not None:
        (folder / "cpuinfo").write_text(f"processor : 0\nmodel name\t: {cpu}\n")
    return folder


@pytest.mark.parametrize(
    ("board", "cpu", "model"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", None, "Raspberry Pi 5 Model B Rev 1.0"),
        (None, "AMD EPYC", "AMD EPYC"),
        (None, None, platform.machine()),
    ],
)
def test_machine_has_the_name_of_board_or_cpu(
    tmp_path: Path, board: str | None, cpu: str | None, model: str
) -> None:
    machine = Machine.read(Hardware(proc=write_proc(tmp_path, board, cpu)))
    assert (machine.model, machine.memory_mb) == (model, 4194)


def test_machine_without_files_has_no_memory(tmp_path: Path) -> None:
    assert Machine.read(Hardware(proc=tmp_path)).memory_mb is None


def test_machine_lines_report_heat_and_other_load() -> None:
    hot = Machine("board", 4, 4096, 3.0, (55.0, 82.4), ("frequency_capped",))
    first, second = hot.lines()
    assert first.endswith("55 to 82 °C, frequency capped")
    assert "load 3.0" in second
    (cool,) = Machine("board", 4, None, 0.1, throttled=()).lines()
    assert cool == "machine: board, 4 cores, not throttled"


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.02, "p50 and p95 are frames without it"),
        (0.33, "p50 is a frame without it, p95 one with it"),
        (0.5, "p50 is between them, p95 is a frame with it"),
        (0.8, "p50 and p95 are frames with it"),
    ],
)
def test_report_explains_percentiles_of_detection(share: float, expected: str) -> None:
    *_, last = DetectionReport(share, 20.0, 1.0).lines(3)
    assert last.endswith(expected)


def test_report_of_warmup_alone_is_refused() -> None:
    with pytest.raises(SettingsError, match="takes all 5 frames of clip"):
        report_of(5)
