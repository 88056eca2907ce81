"""The detector or the models raise: once drops a frame, repeatedly ends the program."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Program
from drawing import draw_scene
from faults.injection import PLACES, Fault, Injection
from publishing.broker import Mosquitto, subscribed
from running import Camera, RunningProgram, broker_at, camera, running

SCENE = draw_scene((60, 60, 120))

LEFT_OUT = "stage failed, frame dropped"

BY_HAAR = ("--detector", "haar", "--set", "events.appear_after=0")


@pytest.fixture
def live() -> Iterator[Camera]:
    with camera(SCENE) as server:
        yield server


@pytest.fixture(params=PLACES)
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def injection(stage: str, tmp_path: Path) -> Injection:
    return Injection(tmp_path, PLACES[stage])


def errors(program: RunningProgram) -> list[str]:
    return [line for line in program.err if " ERROR " in line or line.startswith("edge-daemon: ")]


def test_stage_raising_once_drops_a_frame_logged_and_counted(
    tmp_path: Path, live: Camera, stage: str, injection: Injection
) -> None:
    with (
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        running(
            tmp_path,
            *("--source", live.url, *BY_HAAR, "--set", "device_id=porch"),
            *broker_at(broker.port),
            # A busy machine may take longer for a frame than a face is remembered by default.
            *("--set", "health.interval=1", "--set", "tracking.max_age=60"),
            **injection.environment,
        ) as program,
    ):
        program.wait_for(" kind=appeared")
        injection.order(Fault.RAISE_ONCE)
        program.wait_for(LEFT_OUT)
        seen = len(subscriber.on("faces"))
        subscriber.wait_until(lambda: len(subscriber.on("faces")) > seen + 3)
        subscriber.wait_until(
            lambda: json.loads(subscriber.payloads("health")[-1])["dropped"].get(stage, 0) > 0
        )
        kinds = [json.loads(payload)["kind"] for payload in subscriber.payloads("event")]
        code, _ = program.end(signal.SIGTERM)
    (line,) = errors(program)
    assert f'stage={stage} error="RuntimeError: injected, in two lines" count=1' in line
    assert code == 0
    assert "left" not in kinds


def test_stage_raising_always_ends_program_with_one_error(
    tmp_path: Path, live: Camera, stage: str, injection: Injection
) -> None:
    words = ("--source", live.url, "--sink", "jsonl", *BY_HAAR)
    with running(tmp_path, *words, **injection.environment) as program:
        program.wait_for('"track_id"')
        injection.order(Fault.RAISE)
        code, _ = program.wait_for_end()
    first, end = errors(program)
    assert LEFT_OUT in first
    assert end == (
        f"edge-daemon: {stage} failed on 10 consecutive frames: "
        "RuntimeError: injected, in two lines"
    )
    assert (code, "Traceback" in "\n".join(program.err)) == (1, False)


def test_stage_raising_on_a_file_exits_with_failure(
    program: Program, drawn_clip: Path, stage: str, injection: Injection
) -> None:
    injection.order(Fault.RAISE_ONCE)
    words = ("--source", drawn_clip, "--sink", "jsonl", "--detector", "haar")
    done = program(*words, **injection.environment)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("edge-daemon: "))
    assert line == f"edge-daemon: {stage} failed: RuntimeError: injected, in two lines"
    assert (done.returncode, injection.happened) == (1, True)
