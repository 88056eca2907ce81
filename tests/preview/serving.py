"""A preview that is really served, with results from the test."""

import dataclasses
import http.client
import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import numpy as np
from builders import face, frame, probabilities
from drawing import Image, draw_scene
from running import PATIENCE, free_port

from edge_daemon._lib.clock import SystemClock
from edge_daemon._lib.files import bundled_models
from edge_daemon._lib.http_server import listen
from edge_daemon.capture.status import Pause, SourceStatus
from edge_daemon.config.settings import DetectionSettings, MqttSettings, PreviewSettings, Settings
from edge_daemon.errors import PreviewError
from edge_daemon.inference.bundle import read_bundle
from edge_daemon.monitoring.hardware import Hardware
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.statistics import StageTimings
from edge_daemon.preview.server import PreviewServer
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


class Shown(NamedTuple):
    """A decoded message: the header and the JPEG."""

    header: dict[str, Any]
    jpeg: bytes


class Served:
    """A preview that runs in threads, as the pipeline's would."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        fps: float = FPS,
        broker_port: int | None = None,
        pause: Pause | None = None,
    ) -> None:
        clock = SystemClock()
        self.port = free_port()
        self.pause = pause or Pause()
        self.source = SourceStatus("camera", clock)
        self.timings = StageTimings(clock)
        bundle = read_bundle(bundled_models())
        hardware = Hardware(sys=Path("/absent"))
        self.health = Health(clock, bundle, self.source, self.timings, hardware=hardware)
        self.url = ""
        self.ready = threading.Event()
        listen_at = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        settings = Settings(
            source="camera",
            device_id="porch",
            sink="none" if broker_port is None else "mqtt",
            mqtt=MqttSettings(host="127.0.0.1", port=broker_port),
            detection=DetectionSettings(detector="haar"),
            preview=PreviewSettings(listen=listen_at, fps=fps),
        )
        self._listener = listen((host, self.port), "preview.listen", PreviewError)
        self.server = PreviewServer(
            settings,
            self._listener,
            is_camera=True,
            health=self.health,
            pause=self.pause,
            clock=clock,
            announce=self._announced,
        )
        self._frame_count = 0

    def close(self) -> None:
        """Close what a server that never ran leaves open."""
        self._listener.close()

    def poll(self) -> None:
        """Let the preview notice changes of state, as the pipeline's supervisor does."""
        self.server.poll(None)  # type: ignore[arg-type]

    @property
    def token(self) -> str:
        """The token in the announced URL."""
        return urlsplit(self.url).query.removeprefix("token=")

    def show(self, picture: Image | None = None) -> FrameResult:
        """Pass a frame with one face to the preview, captured now."""
        result = seen(self._frame_count, picture)
        self._frame_count += 1
        self.server(result)
        return result

    def request(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """Send a request as a browser does; `_` in a header's name stands for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, headers=named)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def form_token(self, **headers: str) -> str:
        return str(json.loads(self.request("/session", **headers).body)["token"])

    def viewer(self, **headers: str) -> "Viewer":
        """A WebSocket client, before its first request."""
        return Viewer(self.port, headers)

    def _announced(self, url: str) -> None:
        self.url = url
        self.ready.set()


class Viewer:
    """A WebSocket client (RFC 6455) that sends and reads only on demand."""

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

    def send(self, content: bytes = b"next", *, opcode: int = 1) -> None:
        """One message, masked with zeros."""
        length = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, len(content))
        self._socket.sendall(length + bytes(4) + content)

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

    def next(self) -> Shown:
        """Request the next message, and wait for it."""
        self.send()
        return decoded(self.receive())

    def shrink_buffer(self) -> None:
        """Let the kernel buffer as little as possible of what is never read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def close(self) -> None:
        """Close without a closing handshake."""
        self._reader.close()
        self._socket.close()


def handshake(headers: Mapping[str, str]) -> bytes:
    lines = {**HANDSHAKE, **headers}
    named = (f"{name.replace('_', '-')}: {value}" for name, value in lines.items())
    return "\r\n".join(["GET /live HTTP/1.1", *named, "", ""]).encode()


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Serve during a test."""
    threads = [
        threading.Thread(target=service.run, args=(nullcontext(),))
        for service in served.server.services
    ]
    for thread in threads:
        thread.start()
    try:
        assert served.ready.wait(PATIENCE)
        yield served
    finally:
        for service, thread in zip(served.server.services, threads, strict=True):
            service.stop()
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)


def decoded(message: bytes) -> Shown:
    (length,) = struct.unpack_from(">I", message)
    return Shown(json.loads(message[4 : 4 + length]), message[4 + length :])


def seen(index: int, picture: Image | None = None) -> FrameResult:
    """A result captured now, with one face."""
    bgr = draw_scene((100, 100, 50)) if picture is None else picture
    captured = dataclasses.replace(
        frame(index=index, bgr=bgr),
        captured_monotonic_s=time.monotonic(),
        stream_time_s=float(index),
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
    """An image whose JPEG is large."""
    return np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)


def errors(records: list[logging.LogRecord]) -> list[str]:
    """Messages of warnings and errors."""
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]
