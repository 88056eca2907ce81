"""Faults of a network camera: it disconnects, hangs, changes its size, or sends invalid images.

A V4L2 camera would need a kernel module (v4l2loopback); what differs there, such as a device file
that is gone, is tested in `capture/test_devices.py`.
"""

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import Image, draw_scene, write_clip
from faults.injection import PROGRAM
from output.media import make_video
from publishing.broker import Mosquitto, subscribed
from running import (
    STOP_LIMIT,
    Camera,
    RunningProgram,
    broker_at,
    camera,
    free_port,
    running,
)

from edge_daemon.schema import FacesMessage

SCENE = draw_scene((60, 60, 120))

BY_HAAR = ("--detector", "haar", "--set", "events.appear_after=0")

LINES = ("--sink", "jsonl", *BY_HAAR)


@pytest.fixture
def live() -> Iterator[Camera]:
    with camera(SCENE) as server:
        yield server


def jpeg(picture: Image) -> bytes:
    return bytes(cv2.imencode(".jpg", picture)[1])


def wait_for_faces(program: RunningProgram, more: int = 3) -> None:
    seen = sum('"track_id"' in line for line in program.out)
    program.wait_for('"track_id"', count=seen + more)


def count_lines(program: RunningProgram, words: str) -> int:
    return sum(words in line for line in program.err)


def assert_ends_well(program: RunningProgram) -> None:
    code, seconds = program.end(signal.SIGTERM)
    log = "\n".join(program.err)
    assert (code, seconds < STOP_LIMIT) == (0, True), log
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_camera_unplugged_ends_visits_and_starts_new_ones(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/stream"
    with (
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        running(
            tmp_path,
            *("--source", url, *BY_HAAR, "--set", "device_id=porch"),
            *("--set", "tracking.max_age=0.5", "--set", "mqtt.stale_after=2"),
            *broker_at(broker.port),
        ) as program,
    ):

        def kinds() -> list[str]:
            return [json.loads(payload)["kind"] for payload in subscriber.payloads("event")]

        def sources() -> list[str]:
            return [json.loads(payload)["source"] for payload in subscriber.payloads("health")]

        with camera(SCENE, port):
            subscriber.wait_until(lambda: kinds()[-1:] == ["appeared"])
        # From here on the port is closed: connections are refused.
        subscriber.wait_until(lambda: kinds()[-1] == "left")
        subscriber.wait_until(lambda: sources()[-1] == "lost")
        subscriber.wait_until(lambda: subscriber.payloads("availability")[-1] == b"offline")
        with camera(SCENE, port):
            subscriber.wait_until(lambda: kinds()[-1] == "appeared")
            subscriber.wait_until(lambda: subscriber.payloads("availability")[-1] == b"online")
            subscriber.wait_until(lambda: sources()[-1] == "running")
            assert_ends_well(program)
    assert count_lines(program, "source is back") == count_lines(program, "source lost") <= 2


def test_stalled_capture_is_restarted(tmp_path: Path, live: Camera) -> None:
    words = ("--source", live.url, *LINES, "--set", "capture.read_timeout=2")
    with running(tmp_path, *words) as program:
        wait_for_faces(program)
        live.hung.set()
        program.wait_for("capture stalled, restarting")
        live.hung.clear()
        program.wait_for("source is back")
        wait_for_faces(program)
        assert_ends_well(program)
    frames = [json.loads(line)["frame"] for line in program.out]
    assert frames == sorted(set(frames))


def test_looped_video_with_a_gap_longer_than_the_limit_plays(tmp_path: Path) -> None:
    even, gapped = make_video(tmp_path / "even.mp4", rate="10", frames=8), tmp_path / "gapped.mp4"
    command = ["ffmpeg", "-v", "error", "-i", even, "-vf", "setpts='PTS+gte(N,4)*2.8/TB'"]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "1/90000", gapped]
    subprocess.run(command, check=True)
    words = ("--source", gapped, *LINES, "--set", "capture.loop=true")
    with running(tmp_path, *words, "--set", "capture.read_timeout=2") as program:
        program.wait_for('"position":3.2')
        program.wait_for('"position":0.0', count=2)
        assert_ends_well(program)
    assert count_lines(program, "capture stalled") == 0


def test_camera_stalled_for_good_ends_program_with_one_line(tmp_path: Path, live: Camera) -> None:
    words = ("--source", live.url, *LINES, "--set", "capture.read_timeout=0.5")
    with running(tmp_path, *words) as program:
        wait_for_faces(program)
        live.hung.set()
        code, _ = program.wait_for_end()
    (end,) = (line for line in program.err if line.startswith("edge-daemon: "))
    assert f"{live.url}: no response" in end
    assert "3 stalled reads" in end
    assert (code, "Traceback" in "\n".join(program.err)) == (1, False)


@pytest.mark.parametrize("size", [(640, 480), (176, 144), (240, 320)], ids=str)
def test_stream_frame_size_changed_continues(
    tmp_path: Path, live: Camera, size: tuple[int, int]
) -> None:
    with running(tmp_path, "--source", live.url, *LINES) as program:
        wait_for_faces(program)
        before = len(program.out)
        live.show(draw_scene((10, 10, 120), size=size))
        program.wait_for('"track_id"', count=before + 10)
        live.show(SCENE)
        wait_for_faces(program)
        assert_ends_well(program)
    for message in map(FacesMessage.model_validate_json, program.out):
        for x, y, width, height in (face.box for face in message.faces):
            assert 0 <= x <= x + width <= message.width
            assert 0 <= y <= y + height <= message.height


def damaged() -> Iterator[bytes]:
    """JPEG images as a bad network or a failing camera damages them."""
    whole = jpeg(SCENE)
    dice = random.Random(7)
    for flips in (1, 100, 1000):
        data = bytearray(whole)
        for _ in range(flips):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        yield bytes(data)
    yield from (whole[: len(whole) * part // 8] for part in (1, 4, 6))
    yield whole[len(whole) // 2 :]
    yield from (b"", b"no picture at all", bytes(5000), whole[:2] * 1000)


def test_damaged_frames_are_logged_at_most_once_each(tmp_path: Path, live: Camera) -> None:
    with running(tmp_path, "--source", live.url, *LINES) as program:
        wait_for_faces(program)
        for number, data in enumerate(damaged(), start=1):
            live.jpeg = data
            live.gone.wait(0.3)
            live.show(SCENE)
            wait_for_faces(program)
            assert count_lines(program, "source lost") <= number
        # When a frame of another size comes, all damaged ones have been read.
        live.show(draw_scene(size=(176, 144)))
        program.wait_for('"width":176')
        assert_ends_well(program)
    assert count_lines(program, "source lost") == count_lines(program, "source is back")


def test_black_frames_end_the_visit_and_are_logged_once(tmp_path: Path, live: Camera) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import edge_daemon.capture.loop as checks; checks.CHECKS_UNTIL_LOGGED = 2"
    )
    path = f"{tmp_path}:{PROGRAM}:{os.environ.get('PYTHONPATH', '')}"
    with running(tmp_path, "--source", live.url, *LINES, PYTHONPATH=path) as program:
        program.wait_for('"kind":"appeared"')
        live.show(np.zeros_like(SCENE))
        program.wait_for("image is dark")
        program.wait_for('"kind":"left"')
        program.wait_for('"faces":[]', count=20)
        live.show(SCENE)
        program.wait_for("image is bright again")
        wait_for_faces(program)
        assert_ends_well(program)
    assert count_lines(program, "image is dark") == 1
    assert count_lines(program, "source lost") == 0


def test_video_truncated_while_read_is_reported_with_position(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", [SCENE] * 400, codec="MJPG")
    with running(tmp_path, "--source", clip, *LINES) as program:
        program.wait_for('"frame"', count=5)
        os.truncate(clip, clip.stat().st_size // 2)
        code, _ = program.wait_for_end()
    (end,) = (line for line in program.err if line.startswith("edge-daemon: "))
    assert str(clip) in end
    frames = sum('"faces":[]' not in line for line in program.out)
    assert f"after {frames} frames" in end
    assert (code, len(program.out) > 5) == (1, True)
