import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from running import free_port

from edge_daemon.detection.download import YUNET, DetectorModel, fetch
from edge_daemon.errors import DetectorError

CONTENT = bytes(range(256)) * 1024
"""Several whole reads' worth."""


@dataclass
class Request:
    target: str
    """As it stands in the request line: a path, or for a proxy a whole address."""
    start: int | None
    """Where the asked-for range starts."""


@dataclass
class Behaviour:
    """How the server answers the next requests."""

    content: bytes = CONTENT
    sent: int | None = None
    """Bytes after which the connection ends, though more were promised."""
    ranges: bool = True
    status: int = 200
    promise_length: bool = True
    endless: bool = False
    requests: list[Request] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    """Serves one file, well or badly. It also answers for other hosts, as a proxy does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = Behaviour()

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no error."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else None
        behaviour.requests.append(Request(self.path, start))
        if behaviour.status != 200:
            self.send_error(behaviour.status)
            return
        partial = behaviour.ranges and start is not None
        body = behaviour.content[start:] if partial else behaviour.content
        self.send_response(206 if partial else 200)
        if behaviour.promise_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: behaviour.sent])
        while behaviour.endless:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _without_the_machines_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    # Which proxies there are is read once in a process's life: when this is made.
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


def refusal(model: DetectorModel, folder: Path) -> str:
    with pytest.raises(DetectorError) as refused:
        fetch(model, folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def kept(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_good_file_is_brought_into_a_folder_made_for_it(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    folder = tmp_path / "state" / "detectors"
    assert fetch(model, folder) == folder / "tiny.onnx"
    assert (folder / "tiny.onnx").read_bytes() == CONTENT
    assert kept(folder) == {"tiny.onnx": len(CONTENT)}
    assert server.behaviour.requests == [Request("/models/tiny.onnx", None)]


def test_file_without_a_promised_length_is_brought_too(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    server.behaviour.promise_length = False
    assert fetch(model, tmp_path).read_bytes() == CONTENT


def test_file_that_is_there_is_not_asked_for_again(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    fetch(model, tmp_path)
    server.behaviour.requests.clear()
    assert fetch(model, tmp_path) == tmp_path / "tiny.onnx"
    assert server.behaviour.requests == []


def test_altered_file_is_brought_anew(model: DetectorModel, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"x" + CONTENT[1:])
    assert fetch(model, tmp_path).read_bytes() == CONTENT


def test_other_address_can_be_given(server: Server, model: DetectorModel, tmp_path: Path) -> None:
    elsewhere = replace(model, url="http://127.0.0.1:9/")
    assert fetch(elsewhere, tmp_path, f"{server.address}/mirror").read_bytes() == CONTENT
    assert server.behaviour.requests == [Request("/mirror", None)]


@pytest.mark.parametrize("promise_length", [True, False])
def test_truncated_answer_is_told_and_taken_up_again_where_it_ended(
    server: Server, model: DetectorModel, tmp_path: Path, *, promise_length: bool
) -> None:
    server.behaviour = Behaviour(sent=70_000, promise_length=promise_length)
    said = refusal(model, tmp_path)
    assert f"70000 of {len(CONTENT)} bytes" in said
    assert kept(tmp_path) == {"tiny.onnx.part": 70_000}
    server.behaviour = Behaviour()
    assert fetch(model, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.requests == [Request("/models/tiny.onnx", 70_000)]
    assert kept(tmp_path) == {"tiny.onnx": len(CONTENT)}


def test_server_that_knows_no_ranges_is_read_from_the_start(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    (tmp_path / "tiny.onnx.part").write_bytes(CONTENT[:1000])
    server.behaviour.ranges = False
    assert fetch(model, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.requests == [Request("/models/tiny.onnx", 1000)]


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 5])
def test_part_that_is_full_but_not_accepted_is_begun_anew(
    server: Server, model: DetectorModel, tmp_path: Path, size: int
) -> None:
    (tmp_path / "tiny.onnx.part").write_bytes(b"x" * size)
    assert fetch(model, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.requests == [Request("/models/tiny.onnx", None)]


@pytest.mark.parametrize(
    "content", [CONTENT[::-1], CONTENT + b"more", bytes(3 * len(CONTENT)), b"x" + CONTENT[1:]]
)
def test_other_file_is_refused_and_nothing_kept(
    server: Server, model: DetectorModel, tmp_path: Path, content: bytes
) -> None:
    server.behaviour.content = content
    said = refusal(model, tmp_path)
    assert "tiny.onnx" in said
    assert "sha256" in said
    assert kept(tmp_path) == {}


def test_endless_answer_is_left_and_refused(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    server.behaviour = Behaviour(endless=True, promise_length=False)
    assert "sha256" in refusal(model, tmp_path)
    assert kept(tmp_path) == {}


def test_part_of_another_file_is_refused_and_the_next_attempt_succeeds(
    model: DetectorModel, tmp_path: Path
) -> None:
    (tmp_path / "tiny.onnx.part").write_bytes(b"x" * 1000)
    assert "sha256" in refusal(model, tmp_path)
    assert fetch(model, tmp_path).read_bytes() == CONTENT


def test_refused_file_leaves_the_one_that_is_there(
    server: Server, model: DetectorModel, tmp_path: Path
) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"an older version")
    server.behaviour.content = CONTENT[::-1]
    refusal(model, tmp_path)
    assert (tmp_path / "tiny.onnx").read_bytes() == b"an older version"


@pytest.mark.parametrize("status", [403, 404, 500])
def test_servers_refusal_is_told_with_the_address(
    server: Server, model: DetectorModel, tmp_path: Path, status: int
) -> None:
    server.behaviour.status = status
    assert refusal(model, tmp_path).startswith(f"{model.url}: ")
    assert kept(tmp_path) == {}


def test_no_server_is_told_with_the_address(model: DetectorModel, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/tiny.onnx"
    said = refusal(replace(model, url=url), tmp_path)
    assert said.startswith(f"{url}: ")
    assert "refused" in said


def test_no_name_is_told_with_the_address(model: DetectorModel, tmp_path: Path) -> None:
    url = "http://no-such-host.invalid/tiny.onnx"
    assert refusal(replace(model, url=url), tmp_path).startswith(f"{url}: ")


@pytest.mark.parametrize("url", ["nonsense", "http://[/", "http://a:b/", "http://a b/"])
def test_what_is_no_address_is_told(model: DetectorModel, tmp_path: Path, url: str) -> None:
    assert refusal(replace(model, url=url), tmp_path).startswith(f"{url}: ")


def test_answer_that_is_not_http_is_told(model: DetectorModel, tmp_path: Path) -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"this is no web server\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert refusal(replace(model, url=url), tmp_path).startswith(f"{url}: ")
        thread.join()


def test_folder_that_cannot_be_made_is_told(model: DetectorModel, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, where a folder should be")
    assert str(tmp_path / "state") in refusal(model, tmp_path / "state")


def test_environments_proxy_is_asked_for_the_whole_address(
    server: Server, model: DetectorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    url = "http://models.invalid/tiny.onnx"
    assert fetch(replace(model, url=url), tmp_path).read_bytes() == CONTENT
    assert server.behaviour.requests == [Request(url, None)]


def test_hosts_without_proxy_are_asked_themselves(
    server: Server, model: DetectorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch(model, tmp_path)
    assert server.behaviour.requests == [Request("/models/tiny.onnx", None)]


def test_published_detector_is_the_one_that_the_file_is(yunet_model: Path) -> None:
    content = yunet_model.read_bytes()
    assert (yunet_model.name, len(content)) == (YUNET.file, YUNET.size)
    assert hashlib.sha256(content).hexdigest() == YUNET.sha256


def test_fetch_reports_its_progress(model: DetectorModel, tmp_path: Path) -> None:
    reports: list[tuple[int, float]] = []
    fetch(model, tmp_path, report=lambda count, part: reports.append((count, part)))
    assert reports == sorted(reports)
    assert len(reports) > 1
    assert reports[-1] == (len(CONTENT), 1.0)
