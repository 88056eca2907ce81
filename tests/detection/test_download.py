import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from running import free_port

from edge_daemon.detection.yunet import YUNET, DetectorModel, fetch
from edge_daemon.errors import DetectorError

CONTENT = bytes(range(256)) * 1024
"""Several reads long."""


@dataclass
class Request:
    target: str
    """The target of the request line: a path, or for a proxy a URL."""
    start: int | None
    """Start of the requested range."""


@dataclass
class Behaviour:
    """The server's next responses."""

    content: bytes = CONTENT
    sent: int | None = None
    """Bytes after which the connection ends, fewer than Content-Length."""
    ranges: bool = True
    status: int = 200
    has_length: bool = True
    endless: bool = False
    drip_interval_s: float | None = None
    """Time between two bytes of the header and the content."""
    requests: list[Request] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    """Serves one file, also as a proxy for other hosts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = Behaviour()
        self.is_closing = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A client that disconnects is no error."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        span = self.headers.get("Range")
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else None
        behaviour.requests.append(Request(self.path, start))
        if behaviour.status != 200:
            self.send_error(behaviour.status)
            return
        if behaviour.drip_interval_s is not None:
            self._drip(behaviour)
            return
        partial = behaviour.ranges and start is not None
        body = behaviour.content[start:] if partial else behaviour.content
        self.send_response(206 if partial else 200)
        if behaviour.has_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: behaviour.sent])
        while behaviour.endless:
            self.wfile.write(body)

    def _drip(self, behaviour: Behaviour) -> None:
        header = b"HTTP/1.0 200 OK\r\n\r\n" if behaviour.sent else b"HTTP/1.0 200 "
        self.wfile.write(header + behaviour.content[: behaviour.sent or 0])
        with contextlib.suppress(OSError):
            while not self.server.is_closing.wait(behaviour.drip_interval_s):
                self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.is_closing.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _without_the_machines_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    # The opener reads the proxies once, when it is created.
    monkeypatch.setattr("urllib.request._opener", None)


@pytest.fixture
def model(server: Server) -> DetectorModel:
    return DetectorModel(
        file="tiny.onnx",
        url=f"{server.address}/models/tiny.onnx",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        licence="MIT",
    )


def error_of(model: DetectorModel, folder: Path) -> str:
    with pytest.raises(DetectorError) as raised:
        fetch(model, folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def kept(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_fetch_creates_the_folder_and_the_file(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    folder = tmp_path / "state" / "detectors"
    assert fetch(model, folder) == folder / "tiny.onnx"
    assert (folder / "tiny.onnx").read_bytes() == CONTENT
    assert kept(folder) == {"tiny.onnx": len(CONTENT)}
    assert server.behaviour.requests == [Request("/models/tiny.onnx", None)]


def test_fetch_without_content_length_succeeds(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    server.behaviour.has_length = False
    assert fetch(model, tmp_path).read_bytes() == CONTENT


def test_fetch_of_an_existing_file_sends_no_request(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    fetch(model, tmp_path)
    server.behaviour.requests.clear()
    assert fetch(model, tmp_path) == tmp_path / "tiny.onnx"
    assert server.behaviour.requests == []


def test_fetch_replaces_an_altered_file(model: DetectorModel, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"x" + CONTENT[1:])
    assert fetch(model, tmp_path).read_bytes() == CONTENT


def test_fetch_from_another_url_succeeds(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    elsewhere = replace(model, url="http://127.0.0.1:9/")
    assert fetch(elsewhere, tmp_path, f"{server.address}/mirror").read_bytes() == CONTENT
    assert server.behaviour.requests == [Request("/mirror", None)]


@pytest.mark.parametrize("has_length", [True, False])
def test_fetch_after_a_truncated_response_resumes(
    server: Server, model: DetectorModel, tmp_path: Path, *, has_length: bool
) -> None:
    server.behaviour = Behaviour(sent=70_000, has_length=has_length)
    assert f"70000 of {len(CONTENT)} bytes" in error_of(model, tmp_path)
    assert kept(tmp_path) == {"tiny.onnx.part": 70_000}
    server.behaviour = Behaviour()
    assert fetch(model, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.requests == [Request("/models/tiny.onnx", 70_000)]
    assert kept(tmp_path) == {"tiny.onnx": len(CONTENT)}


def test_fetch_from_a_server_without_ranges_starts_again(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    (tmp_path / "tiny.onnx.part").write_bytes(CONTENT[:1000])
    server.behaviour.ranges = False
    assert fetch(model, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.requests == [Request("/models/tiny.onnx", 1000)]


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 5])
def test_fetch_with_a_full_invalid_part_starts_again(
    server: Server, model: DetectorModel, tmp_path: Path, size: int
) -> None:
    (tmp_path / "tiny.onnx.part").write_bytes(b"x" * size)
    assert fetch(model, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.requests == [Request("/models/tiny.onnx", None)]


@pytest.mark.parametrize(
    "content", [CONTENT[::-1], CONTENT + b"more", bytes(3 * len(CONTENT)), b"x" + CONTENT[1:]]
)
def test_fetch_of_another_file_fails_and_keeps_nothing(
    server: Server, model: DetectorModel, tmp_path: Path, content: bytes
) -> None:
    server.behaviour.content = content
    message = error_of(model, tmp_path)
    assert "tiny.onnx" in message
    assert "sha256" in message
    assert kept(tmp_path) == {}


def test_fetch_of_an_endless_response_fails(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    server.behaviour = Behaviour(endless=True, has_length=False)
    assert "sha256" in error_of(model, tmp_path)
    assert kept(tmp_path) == {}


@pytest.mark.parametrize("sent", [0, 1000], ids=["in the header", "in the content"])
def test_fetch_from_a_dripping_server_ends_at_the_limit(
    server: Server, model: DetectorModel, tmp_path: Path, sent: int
) -> None:
    server.behaviour = Behaviour(sent=sent, drip_interval_s=0.05)
    with pytest.raises(DetectorError) as raised:
        fetch(model, tmp_path, timeout_s=2.0)
    assert str(raised.value).startswith(f"{model.url}: ")
    assert ("tiny.onnx.part" in kept(tmp_path)) == (sent > 0)


def test_fetch_with_a_part_of_another_file_fails_once(model: DetectorModel, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx.part").write_bytes(b"x" * 1000)
    assert "sha256" in error_of(model, tmp_path)
    assert fetch(model, tmp_path).read_bytes() == CONTENT


def test_failed_fetch_keeps_the_existing_file(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"an older version")
    server.behaviour.content = CONTENT[::-1]
    error_of(model, tmp_path)
    assert (tmp_path / "tiny.onnx").read_bytes() == b"an older version"


@pytest.mark.parametrize("status", [403, 404, 500])
def test_fetch_with_an_http_error_names_the_url(
    server: Server, model: DetectorModel, tmp_path: Path, status: int
) -> None:
    server.behaviour.status = status
    assert error_of(model, tmp_path).startswith(f"{model.url}: ")
    assert kept(tmp_path) == {}


def test_fetch_without_a_server_names_the_url(model: DetectorModel, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/tiny.onnx"
    message = error_of(replace(model, url=url), tmp_path)
    assert message.startswith(f"{url}: ")
    assert "refused" in message


def test_fetch_failure_names_the_cause_without_its_number(
    model: DetectorModel, tmp_path: Path
) -> None:
    with pytest.raises(DetectorError, match=r": download failed: Connection refused$"):
        fetch(model, tmp_path, f"http://127.0.0.1:{free_port()}/model.onnx")


def test_fetch_with_an_unknown_host_names_the_url(model: DetectorModel, tmp_path: Path) -> None:
    url = "http://no-such-host.invalid/tiny.onnx"
    assert error_of(replace(model, url=url), tmp_path).startswith(f"{url}: ")


@pytest.mark.parametrize("url", ["nonsense", "http://[/", "http://a:b/", "http://a b/"])
def test_fetch_of_an_invalid_url_names_it(model: DetectorModel, tmp_path: Path, url: str) -> None:
    assert error_of(replace(model, url=url), tmp_path).startswith(f"{url}: ")


def test_fetch_from_a_server_without_http_names_the_url(
    model: DetectorModel, tmp_path: Path
) -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"this is no web server\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert error_of(replace(model, url=url), tmp_path).startswith(f"{url}: ")
        thread.join()


def test_fetch_into_an_impossible_folder_names_it(model: DetectorModel, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, where a folder should be")
    assert str(tmp_path / "state") in error_of(model, tmp_path / "state")


def test_fetch_through_a_proxy_requests_the_whole_url(
    server: Server, model: DetectorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    url = "http://models.invalid/tiny.onnx"
    assert fetch(replace(model, url=url), tmp_path).read_bytes() == CONTENT
    assert server.behaviour.requests == [Request(url, None)]


def test_fetch_of_a_no_proxy_host_is_direct(
    server: Server, model: DetectorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch(model, tmp_path)
    assert server.behaviour.requests == [Request("/models/tiny.onnx", None)]


def test_published_model_matches_the_file(yunet_model: Path) -> None:
    content = yunet_model.read_bytes()
    assert (yunet_model.name, len(content)) == (YUNET.file, YUNET.size)
    assert hashlib.sha256(content).hexdigest() == YUNET.sha256


def test_fetch_reports_its_progress(model: DetectorModel, tmp_path: Path) -> None:
    reports: list[tuple[int, float]] = []
    fetch(model, tmp_path, report=lambda count, part: reports.append((count, part)))
    assert reports == sorted(reports)
    assert len(reports) > 1
    assert reports[-1] == (len(CONTENT), 1.0)
