"""WebSockets in front of a broker that only listens on TCP, as an HTTP proxy does it."""

import base64
import contextlib
import hashlib
import socket
import threading
from typing import Self

from running import PATIENCE

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE = 0x2, 0x8


class WebSocketProxy:
    """Passes binary frames (RFC 6455) on to a broker, and what it sends back as frames."""

    def __init__(self, broker_port: int) -> None:
        self.requests: list[str] = []
        self._broker_port = broker_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                with client, client.makefile("rb") as stream:
                    request = b""
                    while not request.endswith(b"\r\n\r\n"):
                        request += stream.readline()
                    self.requests.append(request.decode())
                    client.sendall(_response(request))
                    with socket.create_connection(("127.0.0.1", self._broker_port)) as broker:
                        back = threading.Thread(target=_wrap, args=(broker, client), daemon=True)
                        back.start()
                        while (payload := _read_frame(stream)) is not None:
                            broker.sendall(payload)
                        broker.shutdown(socket.SHUT_RDWR)
                        back.join(PATIENCE)


def _response(request: bytes) -> bytes:
    headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
    key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"]
    accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )


def _read_frame(stream: "socket.SocketIO | object") -> bytes | None:
    """The payload of the next frame of a client; None at the end."""
    header = stream.read(2)  # type: ignore[attr-defined]
    if len(header) < 2 or header[0] & 0x0F == CLOSE:
        return None
    size = header[1] & 127
    if size >= 126:
        size = int.from_bytes(stream.read(2 if size == 126 else 8))  # type: ignore[attr-defined]
    mask = stream.read(4)  # type: ignore[attr-defined]
    masked = stream.read(size)  # type: ignore[attr-defined]
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))


def _wrap(broker: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := broker.recv(65536):
            size = len(data)
            length = (
                bytes([size])
                if size < 126
                else b"\x7e" + size.to_bytes(2)
                if size < 65536
                else b"\x7f" + size.to_bytes(8)
            )
            client.sendall(bytes([0x80 | BINARY]) + length + data)
