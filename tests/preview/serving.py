"""The preview as it is served, with results that a test puts into it."""

import dataclasses
import http.client
import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import numpy as np
from builders import face, frame, probabilities
from drawing import Image, draw_scene
from running import PATIENCE, free_port

from edge_daemon._lib.clock import SystemClock
from edge_daemon._lib.resources import bundled_models
from edge_daemon.capture.pause import Pause
from edge_daemon.capture.status import SourceStatus
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.hardware import Board
from edge_daemon.monitoring.health import Health
from edge_daemon.preview.assembly import preview
from edge_daemon.records import FaceEmotion, FrameResult

FPS = 50.0
CLOSE = 8
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Key": "c29tZSBrZXkgb3Igb3RoZQ==",
    "Sec_WebSocket_Version": "13",
}
EVERYWHERE = "0.0.0.0"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Look(NamedTuple):
    """A message, taken apart."""

    glance: dict[str, Any]
    jpeg: bytes


class Served:
    """A preview that runs in a thread, as the pipeline's would."""

    def __init__(self, host: str = "127.0.0.1", fps: float = FPS) -> None:
        clock = SystemClock()
        self.port = free_port()
        self.pause = Pause()
        self.source = SourceStatus("camera", clock)
        bundle = read_bundle(bundled_models())
        self.health = Health(clock, bundle, self.source, Board(sys=Path("/nowhere")))
        self.resources = ExitStack()
        self.url = ""
        self.ready = threading.Event()
        self.steps, self.service = preview(
            (host, self.port),
            fps,
            device_id="porch",
            source="camera",
            camera=True,
            health=self.health,
            pause=self.pause,
            clock=clock,
            resources=self.resources,
            announce=self._announced,
        )
        self._shown = 0

    @property
    def token(self) -> str:
        """What was told to whoever started it."""
        return urlsplit(self.url).query.removeprefix("token=")

    def show(self, picture: Image | None = None) -> FrameResult:
        """Have a frame with one face come out of the pipeline, now."""
        result = seen(self._shown, picture)
        self._shown += 1
        for step in self.steps:
            assert step(result) is result
        return result

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask as a browser would; of headers, `_` stands for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def form_token(self, **headers: str) -> str:
        return str(json.loads(self.ask("/session", **headers).body)["token"])

    def watch(self, **headers: str) -> "Watcher":
        """A watcher, not yet asking."""
        return Watcher(self.port, headers)

    def _announced(self, url: str) -> None:
        self.url = url
        self.ready.set()


class Watcher:
    """A WebSocket client (RFC 6455) that sends and reads when it is told to, and never else."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.sendall(handshake(headers | {"Host": f"127.0.0.1:{port}"}))
        self._reader = self._socket.makefile("rb")
        assert self._reader.readline().startswith(b"HTTP/1.1 101 ")
        while self._reader.readline() != b"\r\n":
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, words: bytes = b"next", *, opcode: int = 1) -> None:
        """One message, masked with zeros."""
        length = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, len(words))
        self._socket.sendall(length + bytes(4) + words)

    def receive(self) -> bytes:
        """The next message; nothing once the connection is closed."""
        head = self._reader.read(2)
        if len(head) < 2 or head[0] & 0x0F == CLOSE:
            return b""
        length = head[1]
        if length >= 126:
            form = {126: ">H", 127: ">Q"}[length]
            (length,) = struct.unpack(form, self._reader.read(struct.calcsize(form)))
        return self._reader.read(length)

    def look(self) -> Look:
        """Ask for the next message, and wait for it."""
        self.send()
        return taken_apart(self.receive())

    def go_deaf(self) -> None:
        """Let the system hold as little as it can of what is never read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def close(self) -> None:
        """Leave without a goodbye."""
        self._reader.close()
        self._socket.close()


def handshake(headers: Mapping[str, str]) -> bytes:
    lines = {**HANDSHAKE, **headers}
    named = (f"{name.replace('_', '-')}: {value}" for name, value in lines.items())
    return "\r\n".join(["GET /live HTTP/1.1", *named, "", ""]).encode()


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Serve for as long as a test needs it, and end in the time that a service has."""
    thread = threading.Thread(target=served.service.run, args=(nullcontext,))
    thread.start()
    try:
        assert served.ready.wait(PATIENCE)
        yield served
    finally:
        served.service.stop()
        thread.join(PATIENCE)
        served.resources.close()
    assert not thread.is_alive()


def taken_apart(message: bytes) -> Look:
    (length,) = struct.unpack_from(">I", message)
    return Look(json.loads(message[4 : 4 + length]), message[4 + length :])


def seen(index: int, picture: Image | None = None) -> FrameResult:
    """A result of this moment, with one face."""
    bgr = draw_scene((100, 100, 50)) if picture is None else picture
    captured = dataclasses.replace(
        frame(index=index, bgr=bgr), captured_monotonic=time.monotonic(), stream_time=float(index)
    )
    known = FaceEmotion(
        track_id=5,
        face=face(),
        raw=probabilities(happy=0.9),
        probabilities=probabilities(happy=0.7),
        uncertain=False,
        members=2,
    )
    return FrameResult(captured, (known,), frozenset({5}))


def noise(side: int = 640) -> Image:
    """A picture whose JPEG is large."""
    return np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)


def errors(records: list[logging.LogRecord]) -> list[str]:
    """What was logged that is worse than a note."""
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]
