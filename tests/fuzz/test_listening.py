"""Listening sockets of the program: none, unless a server is enabled."""

import shutil
import subprocess
from pathlib import Path

import pytest
from drawing import draw_scene
from publishing.broker import Mosquitto
from running import RunningProgram, camera, free_port, running

BY_HAAR = ("--detector", "haar")


@pytest.fixture(autouse=True)
def _sees_sockets() -> None:
    if shutil.which("ss") is None:
        pytest.skip("needs ss (iproute2)")


def reachable(program: RunningProgram) -> set[str]:
    """TCP and UDP addresses on which the process listens."""
    words = ["ss", "--listening", "--numeric", "--tcp", "--udp", "--processes", "--no-header"]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    mine = [line for line in output.splitlines() if f"pid={program.process.pid}," in line]
    return {f"{line.split()[0]} {line.split()[4]}" for line in mine}


def test_sockets_by_default_are_none(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path) as broker,
        camera(draw_scene((60, 60, 120))) as live,
        running(
            tmp_path,
            *("--source", live.url, *BY_HAAR, "--set", "mqtt.host=127.0.0.1"),
            *("--set", f"mqtt.port={broker.port}"),
        ) as program,
    ):
        program.wait_for("connected to the broker")
        program.wait_for(" event ")
        assert reachable(program) == set()


def test_sockets_of_servers_are_on_loopback_only(tmp_path: Path) -> None:
    preview, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with (
        camera(draw_scene((60, 60, 120))) as live,
        running(
            tmp_path,
            *("--source", live.url, *BY_HAAR, "--preview", preview, "--metrics", metrics),
        ) as program,
    ):
        program.wait_for("preview at")
        program.wait_for("serving metrics")
        assert reachable(program) == {f"tcp {preview}", f"tcp {metrics}"}
