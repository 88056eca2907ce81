"""The whole program: metrics, health, preview, and the saved pause."""

import json
import logging
import math
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Program, clean_environment
from drawing import draw_scene
from prometheus_client.parser import text_string_to_metric_families
from publishing.broker import Mosquitto, subscribed
from running import PATIENCE, STOP_LIMIT, Camera, camera, eventually, free_port, running

from edge_daemon._lib.clock import SystemClock
from edge_daemon._lib.files import bundled_models
from edge_daemon.config.loading import load_settings
from edge_daemon.config.settings import default_device_id
from edge_daemon.daemon import build_pipeline
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.pipeline import Pipeline
from edge_daemon.schema import FacesMessage, HealthMessage

ALL_MEMBERS = len(read_bundle(bundled_models()).members)

BY_HAAR = ("--sink", "jsonl", "--detector", "haar")


@pytest.fixture
def live() -> Iterator[Camera]:
    with camera(draw_scene((60, 60, 120))) as server:
        yield server


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def pause_file(tmp_path: Path) -> Path:
    """The file that saves a pause."""
    file = tmp_path / "state" / "edge-daemon" / f"paused-{default_device_id()}"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def scraped(address: str) -> dict[str, float]:
    """Values by name, the source's states by theirs."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            sample.labels.get("state", sample.name): sample.value
            for family in families
            for sample in family.samples
        }


def wait_until_scraped(address: str, state: str) -> None:
    end = time.monotonic() + PATIENCE
    while scraped(address)[state] != 1:
        assert time.monotonic() < end, f"never {state}"


def test_metrics_of_a_running_program_are_served(
    tmp_path: Path, live: Camera, address: str
) -> None:
    with running(tmp_path, "--source", live.url, *BY_HAAR, "--metrics", address) as program:
        program.wait_for("serving metrics")
        program.wait_for('"track_id"', count=3)
        read = scraped(address)
        code, seconds = program.end(signal.SIGTERM)
    assert read["running"] == 1
    assert read["edge_daemon_frames_total"] >= read["edge_daemon_latency_seconds_count"] >= 3
    assert read["process_resident_memory_bytes"] > 20e6
    assert (code, seconds < STOP_LIMIT) == (0, True)
    assert "threads did not stop" not in "\n".join(program.err)


def test_looped_clip_is_played_endlessly(tmp_path: Path, drawn_clip: Path) -> None:
    words = ("--source", drawn_clip, *BY_HAAR, "--set", "capture.loop=true")
    with running(tmp_path, *words) as program:
        program.wait_for('"kind":"appeared"')
        program.wait_for('"track_id"', count=16)  # of the clip's 12 frames
        code, _ = program.end(signal.SIGTERM)
    assert code == 0
    left = [number for number, line in enumerate(program.out) if '"kind":"left"' in line]
    assert left == [len(program.out) - 1]  # the end of the program, not of a round


def test_metrics_address_in_use_prints_one_line_and_exits_1(
    program: Program, drawn_clip: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = program("--source", drawn_clip, *BY_HAAR, "--metrics", address)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("edge-daemon: "))
    assert "metrics.listen: cannot listen" in line
    assert address in line
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("extra", "library"),
    [
        ("metrics", "prometheus_client"),
        ("preview", "starlette"),
        ("preview", "uvicorn"),
        ("preview", "websockets"),
    ],
)
def test_server_without_its_library_prints_a_hint(
    tmp_path: Path, drawn_clip: Path, extra: str, library: str
) -> None:
    (tmp_path / f"{library}.py").write_text(f"raise ImportError('no {library}')")
    done = subprocess.run(
        [sys.executable, "-m", "edge_daemon", "--source", drawn_clip, *BY_HAAR, f"--{extra}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment(tmp_path) | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"},
    )
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("edge-daemon: "))
    assert f"no {library}; pip install 'edge-daemon[{extra}]'" in line
    assert done.returncode == 1


def seen_at(address: str) -> list[dict[str, Any]]:
    """The frames of the last minute, as served by the preview."""
    with urllib.request.urlopen(f"http://{address}/minute.json", timeout=PATIENCE) as answer:
        return list(json.load(answer)["frames"])


def test_preview_alone_loops_a_file_at_its_rate_without_broker(
    tmp_path: Path, drawn_clip: Path, address: str
) -> None:
    words = ("--source", drawn_clip, "--detector", "haar", "--preview", address)
    with running(tmp_path, *words) as program:
        program.wait_for(f"edge-daemon: preview at http://{address}/")
        eventually(lambda: len(seen_at(address)) >= 20)  # of the clip's 12 frames
        times = [datetime.fromisoformat(frame["time"]) for frame in seen_at(address)]
        code, seconds = program.end(signal.SIGTERM)
    assert len(times) / (times[-1] - times[0]).total_seconds() < 12  # it has 10 a second
    assert (code, seconds < STOP_LIMIT, program.out) == (0, True, [])
    log = "\n".join(program.err)
    assert "sink=none" in log
    assert "broker" not in log
    assert "threads did not stop" not in log


def faces_at(address: str) -> list[dict[str, Any]]:
    return [face for frame in seen_at(address) for face in frame["faces"]]


def test_preview_and_jsonl_sink_work_together(tmp_path: Path, live: Camera, address: str) -> None:
    with running(tmp_path, "--source", live.url, *BY_HAAR, "--preview", address) as program:
        program.wait_for("preview at ")
        program.wait_for('"track_id"', count=3)
        assert {face["track_id"] for face in faces_at(address)} == {1}
        code, seconds = program.end(signal.SIGTERM)
    assert (code, seconds < STOP_LIMIT) == (0, True)


def test_preview_address_in_use_prints_one_line_and_exits_1(
    program: Program, drawn_clip: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = program("--source", drawn_clip, *BY_HAAR, "--preview", address)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("edge-daemon: "))
    assert "preview.listen: cannot listen" in line
    assert address in line
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.usefixtures("pause_file")
def test_saved_pause_does_not_apply_to_a_looped_file(
    tmp_path: Path, drawn_clip: Path, address: str
) -> None:
    words = ("--source", drawn_clip, "--detector", "haar", "--preview", address)
    with running(tmp_path, *words) as program:
        program.wait_for("preview at ")
        eventually(lambda: faces_at(address))
    assert "paused" not in "\n".join(program.err)


def test_saved_pause_keeps_the_camera_closed_until_removed(
    tmp_path: Path, pause_file: Path, live: Camera, address: str
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as watched,
        running(
            tmp_path,
            "--source",
            f"http://127.0.0.1:{watched.getsockname()[1]}/stream",
            *BY_HAAR,
            "--metrics",
            address,
        ) as program,
    ):
        program.wait_for(f"still paused file={pause_file}")
        program.wait_for("serving metrics")
        wait_until_scraped(address, "paused")
        watched.settimeout(0.5)
        with pytest.raises(TimeoutError):
            watched.accept()
        code, seconds = program.end(signal.SIGTERM)
    assert (code, seconds < STOP_LIMIT, program.out) == (0, True, [])
    pause_file.unlink()
    with running(tmp_path, "--source", live.url, *BY_HAAR) as program:
        program.wait_for('"track_id"')


@pytest.mark.usefixtures("pause_file")
def test_saved_pause_does_not_apply_to_a_file(program: Program, drawn_clip: Path) -> None:
    done = program("--source", drawn_clip, *BY_HAAR)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 13)
    assert "paused" not in done.stderr


def test_health_is_retained_and_published_at_source_loss(tmp_path: Path, live: Camera) -> None:
    broker = Mosquitto(tmp_path)
    broker.start()
    words = ("--set", f"mqtt.port={broker.port}", "--set", "device_id=porch")

    def healths() -> list[HealthMessage]:
        payloads = subscriber.payloads("health")
        return [HealthMessage.model_validate_json(payload) for payload in payloads]

    try:
        with (
            subscribed(broker.port, "edge-daemon/porch") as subscriber,
            running(tmp_path, "--source", live.url, "--detector", "haar", *words),
        ):
            subscriber.wait_until(lambda: "running" in [message.source for message in healths()])
            subscriber.wait_until(lambda: len(subscriber.on("faces")) >= 3)
            live.gone.set()
            subscriber.wait_until(lambda: healths()[-1].source == "lost")
        with subscribed(broker.port, "edge-daemon/porch") as subscriber:
            subscriber.wait_until(lambda: bool(healths()))
            (kept,) = subscriber.on("health")
    finally:
        broker.stop()
    assert (kept.retain, kept.qos) == (True, 1)
    assert (healths()[0].source, healths()[0].fps_in > 0) == ("lost", True)
    assert healths()[0].dropped.keys() == {"detection", "inference", "publishing", "mqtt"}


class Output:
    """A slow output, which takes some seconds per line."""

    def __init__(self, seconds_a_line: float) -> None:
        self.lines: list[bytes] = []
        self._seconds = seconds_a_line

    def write(self, line: bytes) -> None:
        time.sleep(self._seconds)
        self.lines.append(line)

    def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def built(
    source: str | Path,
    output: Output,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    **more: str,
) -> Iterator[Pipeline]:
    """The daemon's pipeline, running in a thread; results go to `output`.

    Names of further settings have `__` in place of the dot.
    """
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=output))
    flags = {"source": str(source), "sink": "jsonl", "state_dir": str(state)}
    flags |= {"detection__detector": "haar", **more}
    settings = load_settings(flags={tuple(key.split("__")): flags[key] for key in flags})
    with ExitStack() as resources:
        pipeline = build_pipeline(settings, SystemClock(), resources)
        running_pipeline = threading.Thread(target=pipeline.run)
        running_pipeline.start()
        try:
            yield pipeline
        finally:
            pipeline.stop()
            running_pipeline.join(PATIENCE)


def test_dropped_results_keep_their_events(
    tmp_path: Path, live: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(seconds_a_line=0.5)
    with built(live.url, output, tmp_path, monkeypatch) as pipeline:
        eventually(lambda: any(b'"appeared"' in line for line in output.lines))
        eventually(lambda: pipeline.dropped["publishing"] > 0)


def test_failed_web_servers_leave_recognition_running(
    tmp_path: Path, live: Camera, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("edge_daemon._lib.http_server._Server._accept", fail)
    output = Output(seconds_a_line=0.0)
    more = {"preview__listen": f"127.0.0.1:{free_port()}", "metrics__listen": address}
    with built(live.url, output, tmp_path, monkeypatch, **more) as pipeline:
        eventually(lambda: pipeline.stuck_services == ("metrics", "preview"))
        seen = len(output.lines)
        eventually(lambda: len(output.lines) > seen + 3)


@pytest.fixture
def thermometer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the machine's temperature; load shedding reacts to it quickly."""
    file = tmp_path / "class" / "thermal" / "thermal_zone0" / "temp"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr("edge_daemon.daemon.Hardware", lambda: Hardware(sys=tmp_path))
    for name, value in {
        "CHECK_INTERVAL_S": 0.1,
        "HEAT_DELAY_S": 0.2,
        "RECOVERY_DELAY_S": 0.5,
        "OVERLOAD": math.inf,  # on a busy machine, one frame can take the whole interval
    }.items():
        monkeypatch.setattr(f"edge_daemon.monitoring.load_shedding.{name}", value)
    return file


def members_used(output: Output) -> list[int]:
    messages = map(FacesMessage.model_validate_json, tuple(output.lines))
    return [face.members for message in messages for face in message.faces]


def test_load_shedding_hot_machine_uses_fewer_members(
    tmp_path: Path,
    live: Camera,
    thermometer: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "edge_daemon.monitoring.load_shedding")
    thermometer.write_text("40000")
    output = Output(seconds_a_line=0.0)
    # Neither a slow frame nor the pauses between frames are an overload, also on a busy machine.
    relaxed = {"capture__fps": "2", "shedding__budget": "10"}
    with built(live.url, output, tmp_path, monkeypatch, **relaxed):
        eventually(lambda: members_used(output))
        thermometer.write_text("90000")
        eventually(lambda: 1 in members_used(output))
        eventually(
            lambda: any(vars(record)["detection_interval"] == 5 for record in caplog.records)
        )
        thermometer.write_text("40000")
        eventually(lambda: members_used(output)[-1:] == [ALL_MEMBERS])
    assert members_used(output)[0] == ALL_MEMBERS


def test_load_shedding_does_not_apply_to_a_file(
    tmp_path: Path, drawn_clip: Path, thermometer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thermometer.write_text("90000")
    output = Output(seconds_a_line=0.1)
    with built(drawn_clip, output, tmp_path, monkeypatch):
        eventually(lambda: len(output.lines) == 13)
    assert members_used(output) == [ALL_MEMBERS] * 12


def kinds_of(payloads: list[bytes]) -> list[str]:
    return [json.loads(payload)["kind"] for payload in payloads]


@pytest.mark.parametrize("end", ["SIGTERM", "file"])
def test_faces_leave_before_the_device_goes_offline(
    tmp_path: Path, live: Camera, drawn_clip: Path, end: str
) -> None:
    source = live.url if end == "SIGTERM" else str(drawn_clip)
    with (
        Mosquitto(tmp_path) as broker,
        subscribed(broker.port, "edge-daemon/porch") as subscriber,
        running(
            tmp_path,
            *("--source", source, "--detector", "haar", "--set", "device_id=porch"),
            *("--set", f"mqtt.port={broker.port}", "--set", "mqtt.host=127.0.0.1"),
        ) as program,
    ):
        subscriber.wait_until(lambda: "appeared" in kinds_of(subscriber.payloads("event")))
        if end == "SIGTERM":
            code, seconds = program.end(signal.SIGTERM)
            assert seconds < STOP_LIMIT
        else:
            code = program.process.wait(PATIENCE)
        subscriber.wait_for("availability", b"online", b"offline")
        assert code == 0
        assert kinds_of(subscriber.payloads("event")) == ["appeared", "left"]
        topics = [message.topic.rpartition("/")[2] for message in subscriber.messages]
        assert topics.index("event") < len(topics) - 1 - topics[::-1].index("event")
        assert topics[-1] == "availability"
