"""Several outputs at once: a failure of one completes the others."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from builders import frame, probabilities, result
from disks import small_disk

from edge_daemon.errors import OutputError
from edge_daemon.output import Outputs
from edge_daemon.output.table import CsvTable
from edge_daemon.output.video import AnnotatedVideo
from edge_daemon.records import FrameResult


class BrokenOutput:
    """An output whose disk fails at its second frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = 0
        self.calls: list[str] = []

    def write(self, _: FrameResult) -> None:
        self.frames += 1
        if self.frames == 2:
            raise OSError(5, "Input/output error")

    def close(self) -> None:
        self.calls.append("close")

    def discard(self) -> None:
        self.calls.append("discard")


def test_outputs_with_a_broken_one_complete_the_others(tmp_path: Path) -> None:
    broken, table = BrokenOutput(tmp_path / "b"), CsvTable(tmp_path / "t.csv")
    outputs = Outputs([table, broken])
    face = {1: probabilities(happy=0.9)}
    outputs(result(0.0, face))
    with pytest.raises(OutputError, match=r"/b: .*Input/output error"):
        outputs(result(1.0, face))
    outputs.close()
    assert broken.calls == ["discard"]
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3


def test_outputs_without_a_frame_leave_no_file(tmp_path: Path) -> None:
    Outputs([CsvTable(tmp_path / "t.csv"), AnnotatedVideo(tmp_path / "a.mp4")]).close()
    assert list(tmp_path.iterdir()) == []


def test_video_on_a_disk_that_fills_up_is_removed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    with small_disk(tmp_path / "disk") as disk:
        outputs = Outputs([AnnotatedVideo(disk / "a.mp4")])
        with pytest.raises(OutputError, match="No space left on device"):  # noqa: PT012
            for number in range(200):
                shifted = frame(bgr=np.roll(noise, number, axis=1))
                still = dataclasses.replace(shifted, position_s=number / 25)
                outputs(FrameResult(still, (), frozenset()))
        outputs.close()
        assert list(disk.iterdir()) == []


def test_video_with_a_gap_beyond_its_format_is_refused(tmp_path: Path) -> None:
    outputs = Outputs([AnnotatedVideo(tmp_path / "a.mp4")])
    with pytest.raises(OutputError, match=r"^--output: .* at 50000\.0 s\); "):  # noqa: PT012
        for position_s in (0.0, 0.1, 50_000.0, 50_000.1):
            still = dataclasses.replace(frame(), position_s=position_s)
            outputs(FrameResult(still, (), frozenset()))
    outputs.close()
    assert list(tmp_path.iterdir()) == []
