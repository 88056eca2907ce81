"""A hundred starts and stops of the whole daemon in one process leak no resources."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import clean_environment
from drawing import draw_scene, write_clip
from publishing.broker import Mosquitto
from running import camera, free_port

CYCLES = 100

WARM = 25
"""Warm-up cycles, after which everything is loaded and the memory use is stable."""

GROWTH = 1.05
"""Maximum ratio of the memory at the end to that after the warm-up."""


def held_after_each(folder: Path) -> list[dict[str, int]]:
    scenes = [draw_scene((60 + 2 * step, 60, 120)) for step in range(4)]
    clip = write_clip(folder / "clip.mp4", scenes)
    with camera(scenes[0]) as live, Mosquitto(folder) as broker:
        ports = (broker.port, free_port(), free_port())
        words = (CYCLES, folder / "state", clip, live.url, *ports)
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("cycles.py"), *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=580,
            env=clean_environment(folder),
        )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


@pytest.mark.timeout(600)
def test_nothing_is_left_of_a_hundred_starts_and_stops(tmp_path: Path) -> None:
    held = held_after_each(tmp_path)
    assert len(held) == CYCLES
    for what in ("descriptors", "threads", "tasks"):
        counts = [each[what] for each in held[WARM:]]
        assert max(counts) == min(counts), f"{what}: {counts}"
    resident = [each["resident"] / 1e6 for each in held]
    assert resident[-1] < GROWTH * resident[WARM], resident
