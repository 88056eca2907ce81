"""A small RTSP camera: it sends a clip that ffmpeg packs into RTP, over TCP or UDP (RFC 2326)."""

import base64
import contextlib
import re
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

LOGIN = "Basic " + base64.b64encode(b"ann:p@ss/w?rd").decode()


class RtspCamera(socketserver.ThreadingTCPServer):
    """Plays a clip repeatedly, from its first frame whenever a client asks for it.

    Args:
        clip: an H.264 video.
        with_tcp: whether it sends RTP over the RTSP connection, too.
        with_login: whether it asks for the LOGIN.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, clip: Path, *, with_tcp: bool = True, with_login: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.clip = clip
        self.with_tcp = with_tcp
        self.with_login = with_login
        self.transports: list[str] = []
        self.url = f"rtsp://127.0.0.1:{self.server_address[1]}/live"

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no error."""


class _Session(socketserver.StreamRequestHandler):
    server: RtspCamera

    def handle(self) -> None:
        with contextlib.ExitStack() as self.stack:
            self.rtp = self.stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            self.rtp.bind(("127.0.0.1", 0))
            self.sdp = self.server.clip.with_name(f"{self.rtp.getsockname()[1]}.sdp")
            while request := self.rfile.readline().decode():
                if request.startswith("$"):
                    continue
                headers = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(": ")
                    headers[name.lower()] = value
                self.answer(request.split()[0], headers)

    def answer(self, method: str, headers: dict[str, str]) -> None:
        if self.server.with_login and headers.get("authorization") != LOGIN:
            self.send("401 Unauthorized", headers, ['WWW-Authenticate: Basic realm="cam"'])
        elif method == "OPTIONS":
            self.send("200 OK", headers, ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"])
        elif method == "DESCRIBE":
            self.start_ffmpeg()
            body = re.sub(r"(?m)^m=video \d+", "m=video 0", self.sdp.read_text()).partition("v=")
            self.send("200 OK", headers, ["Content-Type: application/sdp"], "v=" + body[2])
        elif method == "SETUP":
            self.transport = headers["transport"].split(",")[0]
            self.server.transports.append(self.transport)
            if "TCP" in self.transport and not self.server.with_tcp:
                self.send("461 Unsupported Transport", headers)
            else:
                self.send("200 OK", headers, [f"Transport: {self.transport}"])
        elif method == "PLAY":
            self.send("200 OK", headers)
            threading.Thread(target=self.forward, daemon=True).start()
        else:
            self.send("200 OK", headers)

    def send(self, status: str, headers: dict[str, str], more: tuple | list = (), body="") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {headers['cseq']}", "Session: 1", *more]
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])
        self.wfile.write(text.encode())

    def start_ffmpeg(self) -> None:
        words = ["ffmpeg", "-v", "error", "-y", "-re", "-stream_loop", "-1"]
        words += ["-i", self.server.clip, "-an", "-c", "copy", "-f", "rtp"]
        words += ["-sdp_file", self.sdp, f"rtp://127.0.0.1:{self.rtp.getsockname()[1]}"]
        process = subprocess.Popen(words)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        self.rtp.settimeout(10)
        self.first = self.rtp.recv(65536)  # the description is there now, too

    def forward(self) -> None:
        ports = re.search(r"client_port=(\d+)", self.transport)
        with contextlib.suppress(OSError):
            packet = self.first
            while True:
                if ports:
                    self.rtp.sendto(packet, ("127.0.0.1", int(ports[1])))
                else:
                    self.wfile.write(b"$\x00" + len(packet).to_bytes(2, "big") + packet)
                packet = self.rtp.recv(65536)


@contextlib.contextmanager
def rtsp_camera(clip: Path, **options: bool) -> Iterator[RtspCamera]:
    with RtspCamera(clip, **options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
