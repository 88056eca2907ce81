import json
import os
from pathlib import Path

import pytest
from conftest import Program

from edge_daemon._lib.files import bundled_models
from edge_daemon.inference.bundle import read_bundle

STAGES = ["capture", "detection", "inference", "publishing"]


def test_bench_clip_reports_all_stages(program: Program, drawn_clip: Path) -> None:
    words = ("bench", "--source", drawn_clip, "--detector", "haar", "--warmup", "2")
    done = program(*words, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report["stages"]) == STAGES
    assert all(0 < stage["p50_ms"] <= stage["p95_ms"] for stage in report["stages"].values())
    assert (report["frames"], report["width"], report["height"]) == (10, 320, 240)
    assert report["faces"] == 1.0
    models = read_bundle(bundled_models()).members
    assert report["members"] == len(models)
    settings = report["settings"]
    assert (settings["detector"], settings["threads"]) == ("haar", 1)
    assert (settings["detection_interval"], settings["detection_max_side"]) == (3, 640)
    assert [name.split()[0] for name in settings["models"]] == [model.file for model in models]
    assert report["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert report["machine"]["model"]
    assert report["machine"]["memory_mb"] > 100
    assert 0.2 < report["detection"]["share"] < 1
    assert report["detection"]["without_ms"] < report["detection"]["with_ms"]
    assert report["fps"] > 0
    assert report["cpu_ms"] > 0


def test_bench_table_has_the_same_figures(program: Program, drawn_clip: Path) -> None:
    words = ("bench", "--source", drawn_clip, "--detector", "haar", "--frames", 30)
    lines = program(*words).stdout.splitlines()
    assert lines[0] == f"{drawn_clip}: 30 frames of 320x240"
    assert lines[1].startswith("machine: ")
    assert [line.split()[0] for line in lines[lines.index("") + 2 :][:4]] == STAGES
    assert any("1.00 faces a frame" in line for line in lines)
    assert lines[-2].endswith("(detection.interval = 3)")


def test_bench_interval_1_reports_no_frames_without_detection(
    program: Program, drawn_clip: Path
) -> None:
    words = ("bench", "--source", drawn_clip, "--detector", "haar", "--json")
    done = program(*words, "--set", "detection.interval=1")
    detection = json.loads(done.stdout)["detection"]
    assert (detection["share"], detection["without_ms"]) == (1.0, None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--source", "/dev/video0"], "is live"),
        (["--frames", "0"], "--frames: must be 1 or more"),
        (["--warmup", "-1"], "--warmup: must be 0 or more"),
        (["--frames", "many"], "--frames"),
        (["--warmup", "12"], "12 frames"),
    ],
)
def test_bench_unsuitable_settings_print_one_line(
    program: Program, drawn_clip: Path, words: list[str], expected: str
) -> None:
    done = program("bench", "--source", drawn_clip, "--detector", "haar", *words)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("edge-daemon: "))
    assert expected in line


def test_bench_sends_no_messages(program: Program, drawn_clip: Path) -> None:
    done = program(
        *("bench", "--source", drawn_clip, "--detector", "haar", "--json"),
        *("--set", "mqtt.host=nowhere.invalid", "--set", "metrics.listen=256.0.0.1:1"),
        *("--set", "preview.listen=256.0.0.1:2"),
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
