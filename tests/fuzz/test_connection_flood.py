"""Connection floods to the preview and the metrics do not affect the rest of the daemon."""

import contextlib
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from drawing import draw_scene
from preview.serving import HANDSHAKE
from publishing.broker import Mosquitto
from running import PATIENCE, RunningProgram, broker_at, camera, free_port

CONNECTIONS = 1500
SLOW_CLIENTS = 64
MAX_OPEN_FILES = 1024
PREVIEW, METRICS = free_port(), free_port()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[RunningProgram]:
    """A daemon with a camera, a broker, the preview and the metrics, and few file descriptors."""
    limit = ["prlimit", f"--nofile={MAX_OPEN_FILES}:{MAX_OPEN_FILES}"]
    words = ("--preview", f"127.0.0.1:{PREVIEW}", "--metrics", f"127.0.0.1:{METRICS}")
    with Mosquitto(tmp_path) as broker, camera(draw_scene((60, 60, 120))) as live:
        mqtt = broker_at(broker.port)
        words = (*words, "--source", live.url, "--detector", "haar", *mqtt)
        program = RunningProgram(tmp_path, *words, inside=limit)
        try:
            program.wait_for("serving metrics")
            program.wait_for("preview at")
            program.wait_for("connected to the broker")
            yield program
        finally:
            program.process.kill()
            program.process.wait()


def metric(name: str) -> float:
    """A metric of the running daemon; retried, since a flood may displace a scrape."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{METRICS}/metrics"
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                text = response.read().decode()
            (value,) = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
            return float(value)
        assert time.monotonic() < deadline


def connect(port: int) -> socket.socket:
    """Start to connect; the kernel may leave it waiting."""
    connection = socket.socket()
    connection.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        connection.connect(("127.0.0.1", port))
    return connection


@pytest.mark.parametrize("port", [PREVIEW, METRICS], ids=["preview", "metrics"])
def test_connection_flood_leaves_the_pipeline_and_broker_alone(
    program: RunningProgram, port: int
) -> None:
    frames = metric("edge_daemon_frames_total")
    with ExitStack() as clients:
        for number in range(CONNECTIONS):
            client = clients.enter_context(connect(port))
            with contextlib.suppress(OSError):
                client.send(b"G")
            if number % 300 == 0:
                time.sleep(0.5)
        time.sleep(2)
        files = Path(f"/proc/{program.process.pid}/fd")
        assert len(list(files.iterdir())) < 200
    assert program.process.poll() is None
    assert metric("edge_daemon_frames_total") > frames
    assert metric("edge_daemon_broker_connected") == 1
    assert metric("edge_daemon_broker_reconnects_total") == 0
    assert not [line for line in program.err if "Traceback" in line or "ERROR" in line]
    assert sum("connection limit" in line for line in program.err) <= 2


@pytest.mark.parametrize("port", [PREVIEW, METRICS], ids=["preview", "metrics"])
def test_slow_clients_do_not_lock_out_others(program: RunningProgram, port: int) -> None:
    path = {PREVIEW: "session", METRICS: "metrics"}[port]
    with ExitStack() as clients:
        slow = [clients.enter_context(connect(port)) for _ in range(SLOW_CLIENTS)]
        for byte in b"GET /":
            for client in slow:
                with contextlib.suppress(OSError):
                    client.send(bytes([byte]))
            time.sleep(0.2)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE) as one:
                assert one.status == 200


def test_refused_websockets_are_not_logged(program: RunningProgram) -> None:
    named = HANDSHAKE | {"Host": "localhost", "Origin": "http://evil.example"}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    lines = len(program.err)
    for request in (f"GET /live HTTP/1.1\r\n{head}\r\n", f"GET /absent HTTP/1.1\r\n{head}\r\n"):
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", PREVIEW), PATIENCE) as connection:
                connection.sendall(request.encode())
                assert connection.recv(12).startswith(b"HTTP/1.1 403")
    assert len(program.err) - lines <= 2, program.err[lines:]
