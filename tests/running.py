"""The program as a running child process, and a live camera as its source."""

import contextlib
import itertools
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import cv2
from conftest import clean_environment
from drawing import Image

PATIENCE = 90.0
"""Timeout in seconds for expected conditions, long enough for a busy machine.

With ten other processes on two cores, the program takes half a minute to start.
"""

STOP_LIMIT = 3.0
"""Maximum seconds until the program has stopped, without waits for a CPU: 2, and a reserve."""

STOP_LIMIT_WITH_WAITS = 4.5
"""The same with waits for a CPU, below the 5 s after which calls of the network end themselves."""


def eventually(fulfilled: Callable[[], object]) -> None:
    """Poll a condition until it holds; fail after `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not fulfilled():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def broker_at(port: int) -> tuple[str, ...]:
    """Command-line options that select a broker on this machine."""
    return ("--set", "mqtt.host=127.0.0.1", "--set", f"mqtt.port={port}")


def _ports() -> Iterator[int]:
    """This process's share of the ports below the range of ephemeral ports, in random order."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = range(20_000 + worker, 32_768, count)  # below ip_local_port_range
    return itertools.cycle(random.SystemRandom().sample(share, len(share)))


_PORTS = _ports()


def free_port() -> int:
    """A port without listener, which neither a later call nor another worker returns.

    Until its listener starts, another process could take it.
    """
    while True:
        port = next(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def file_limit(maximum: int) -> Iterator[None]:
    """Let this process open no file with a descriptor from this number."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def send_until_closed(connection: socket.socket, content: bytes) -> None:
    """Send this and read until the server closes, which it may do at any moment."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(content)
        with contextlib.suppress(OSError):  # not connected, since the server has closed
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def cpu_waits_s(pid: int) -> dict[str, float]:
    """Seconds for which each thread of a process was ready to run, but had no CPU."""
    waits_s = {}
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            waits_s[file.parent.name] = int(file.read_text().split()[1]) / 1e9
    return waits_s


class RunningProgram:
    """`edge-daemon` as a child process whose lines are collected while it runs.

    Args:
        state: below which its state folder is made.
        words: of its command line.
        inside: a command inside of which it runs, such as of another network.
        environment: its variables, in addition to those that tests always set.
    """

    def __init__(
        self, state: Path, *words: object, inside: Sequence[str] = (), **environment: str
    ) -> None:
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-m", "edge_daemon", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(state) | environment,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._arrived = threading.Condition()
        self._readers = [
            threading.Thread(target=self._collect, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, words: str, count: int = 1) -> None:
        """Wait until `count` lines, of output and errors together, have these words."""
        with self._arrived:
            found = self._arrived.wait_for(
                lambda: sum(words in line for line in self.out + self.err) >= count, PATIENCE
            )
        assert found, f"{words!r} never came, but: {self.err}"

    def has_line(self, words: str) -> bool:
        """Whether a line of output or errors contains these words."""
        with self._arrived:
            return any(words in line for line in self.out + self.err)

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Send a signal that ends it; return what `wait_for_end` does."""
        self.process.send_signal(number)
        return self.wait_for_end()

    def wait_for_end(self) -> tuple[int, float]:
        """Wait for the exit; return the code and the seconds, except those without a free CPU."""
        began, before_s = time.monotonic(), cpu_waits_s(self.process.pid)
        waits_s = before_s.copy()
        while self.process.poll() is None:
            assert time.monotonic() < began + PATIENCE, f"it does not end: {self.err}"
            waits_s |= cpu_waits_s(self.process.pid)
            time.sleep(0.02)
        seconds = time.monotonic() - began - (sum(waits_s.values()) - sum(before_s.values()))
        for reader in self._readers:
            reader.join(PATIENCE)
        return self.process.returncode, seconds

    def _collect(self, stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                with self._arrived:
                    lines.append(line.rstrip("\n"))
                    self._arrived.notify_all()


@contextmanager
def running(state: Path, *words: object, **environment: str) -> Iterator[RunningProgram]:
    program = RunningProgram(state, *words, **environment)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.end(signal.SIGKILL)


class Camera(ThreadingHTTPServer):
    """A network camera that repeats one image as MJPEG over HTTP."""

    daemon_threads = True

    def __init__(self, picture: Image, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Stream)
        self.show(picture)
        self.gone = threading.Event()
        self.hung = threading.Event()
        """While it is set, connections stay open without data."""
        self.url = f"http://127.0.0.1:{self.server_address[1]}/stream"

    def show(self, picture: Image) -> None:
        """Send another image from now on."""
        self.jpeg = cv2.imencode(".jpg", picture)[1].tobytes()

    def handle_error(self, *_: object) -> None:
        """A disconnected client is no error."""


class _Stream(BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        self.wfile.write(b"A preamble (RFC 2046), with which opening succeeds.\r\n")
        while not self.server.gone.wait(0.02):
            if self.server.hung.is_set():
                continue
            jpeg = self.server.jpeg
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
            self.wfile.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def camera(picture: Image, port: int = 0) -> Iterator[Camera]:
    server = Camera(picture, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.gone.set()
        server.shutdown()
        thread.join()
        server.server_close()
