import sys
from pathlib import Path

import pytest
from conftest import material

from benchmarks.cases import Case
from benchmarks.contestants import kernels, pipeline
from benchmarks.workers import contestant
from edge_daemon._lib.files import bundled_models
from edge_daemon.errors import PipelineError


def case(clip: Path, detector: str, yunet: Path | None = None) -> Case:
    return Case(
        clip=str(clip),
        detector=detector,
        bundle=str(bundled_models()),
        threads=1,
        frames=3,
        warmup=1,
        yunet=None if yunet is None else str(yunet),
    )


@pytest.mark.parametrize("detector", ["bundled", "haar"])
def test_kernels_see_the_faces_of_the_pipeline(drawn_clip: Path, detector: str) -> None:
    ours, bare = (it.measure(case(drawn_clip, detector)) for it in (pipeline, kernels))
    assert (ours.frames, ours.faces) == (bare.frames, bare.faces) == (3, 3)
    assert min(ours.cpu_seconds, bare.cpu_seconds, ours.seconds, bare.seconds) > 0


def test_yunet_is_among_the_kernels(yunet_model: Path) -> None:
    clip = material("clips/head-pose-face-detection-female-and-male.mp4")
    assert kernels.measure(case(clip, "yunet", yunet_model)).faces == 6


def test_contestant_that_fails_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "none.mp4"
    with (
        contestant("kernels", sys.executable) as measure,
        pytest.raises(PipelineError, match=r"benchmark of kernels failed: .*none\.mp4"),
    ):
        measure(case(missing, "bundled"))
