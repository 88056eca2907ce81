"""The command itself on a drawn clip, without fer and without data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_daemon._lib.files import bundled_models
from edge_daemon.inference.bundle import read_bundle

ROOT = Path(__file__).parents[2]
PAGE = "<!-- comparisons -->\n<!-- /comparisons -->\n<!-- targets -->\n<!-- /targets -->\n"


def benchmarks(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "performance.md").write_text(PAGE)
    return folder


def test_pipeline_and_kernels_are_compared(drawn_clip: Path, folder: Path) -> None:
    done = benchmarks(
        *("--clips", drawn_clip, "--faces", 2, "--threads", 1, "--parts", "comparisons", "models"),
        *("--docs", folder, "--json"),
        *("--rounds", 1, "--frames", 5, "--warmup", 2, "--detectors", "bundled"),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    lines = results["comparisons"]["lines"]
    members = len(read_bundle(bundled_models()).members)
    assert {(line["clip"], line["faces"]) for line in lines} == {("drawn", None), ("faces-2", 2)}
    assert {line["members"] for line in lines} == {1, members}
    for line in lines:
        assert line["pipeline"]["faces"] == line["kernels"]["faces"] == (line["faces"] or 1)
        assert line["over_kernels"] > 0
        assert line["fer"] is None
    files = {member.file for member in read_bundle(bundled_models()).members}
    assert {model["name"] for model in results["models"]["models"]} == files
    page = (folder / "performance.md").read_text()
    assert page.count("| drawn | bundled | ") == 1
    kept = json.loads((folder / "performance.json").read_text())
    assert kept["comparisons"] == results["comparisons"]


def test_clip_that_does_not_last_is_steady(drawn_clip: Path) -> None:
    done = benchmarks(
        *("--clips", drawn_clip, "--parts", "steadiness", "--minutes", 0.05, "--json")
    )
    assert done.returncode == 0, done.stderr
    steadiness = json.loads(done.stdout)["steadiness"]
    assert len(steadiness["minutes"]) == 4
    assert all(part["frames"] > 0 and part["rss_mb"] > 10 for part in steadiness["minutes"])


@pytest.mark.parametrize(
    "words", [["--parts", "comparisons"], ["--parts", "anytime", "--clips", "some.mp4"]]
)
def test_nothing_to_measure_is_one_line(words: list[str]) -> None:
    done = benchmarks(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "benchmarks: nothing to measure: name --clips, or --data"


def test_results_of_another_form_are_refused_first(drawn_clip: Path, tmp_path: Path) -> None:
    kept = tmp_path / "performance.json"
    kept.write_text('{"models": {"rounds": 1}}')
    done = benchmarks("--clips", drawn_clip, "--docs", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"benchmarks: {kept}: models.stamp: ")
    assert line.endswith("; remove it to repeat the measurement")


def test_missing_clip_is_one_line(tmp_path: Path) -> None:
    done = benchmarks("--clips", tmp_path / "none.mp4", "--parts", "comparisons")
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert line == f"benchmarks: {tmp_path / 'none.mp4'}: not a video that can be read"
