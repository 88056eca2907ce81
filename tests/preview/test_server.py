"""The preview as a service: its messages, its end, its threads, and misbehaving clients."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from preview.serving import EVERYWHERE, Answer, Served, Viewer, errors, noise, serving
from running import PATIENCE, STOP_LIMIT_WITH_WAITS, eventually

from edge_daemon._lib import http_server
from edge_daemon.capture.status import Pause
from edge_daemon.config.settings import ZoneSettings
from edge_daemon.monitoring.hardware import Hardware


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served()) as made:
        yield made


def silent_reader(served: Served) -> Viewer:
    """A client that requests messages and never reads."""
    viewer = served.viewer()
    viewer.shrink_buffer()
    return viewer


def test_viewer_gets_frames_in_order(served: Served) -> None:
    with served.viewer() as viewer:
        viewer.next()
        for _ in range(5):
            index = served.show().frame.index
            assert viewer.next().header["frame"]["frame"] == index


def test_pause_removes_the_picture_for_all_viewers(served: Served) -> None:
    with served.viewer() as first, served.viewer() as second:
        first.next()
        served.show()
        assert first.next().jpeg
        served.pause.set(True)
        served.poll()
        for viewer in (first, second):
            message = viewer.next()
            assert (message.header["paused"], message.jpeg) == (True, b"")


def switched(served: Served, path: str) -> Answer:
    return served.request(path, "POST", X_Preview_Token=served.form_token())


def test_pause_that_is_not_saved_is_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.touch()  # a file, in which no pause can be saved
    with serving(Served(pause=Pause(folder / "paused"))) as served:
        assert switched(served, "/pause").status == 500
        assert served.pause.paused
        folder.unlink()
        assert switched(served, "/pause").status == 204
    assert (folder / "paused").exists()


def test_pause_on_a_slow_disk_blocks_no_other_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, released = threading.Event(), threading.Event()

    def sync(_folder: Path) -> None:
        syncing.set()
        assert released.wait(PATIENCE)

    monkeypatch.setattr("edge_daemon.capture.status.sync", sync)
    with serving(Served(pause=Pause(tmp_path / "paused"))) as served, ThreadPoolExecutor() as pool:
        response = pool.submit(switched, served, "/pause")
        try:
            assert syncing.wait(PATIENCE)
            assert served.request("/session").status == 200
            assert not response.done()
        finally:
            released.set()
        assert response.result(PATIENCE).status == 204


def test_source_state_changes_reach_the_viewer(served: Served) -> None:
    with served.viewer() as viewer:
        viewer.next()
        served.source.running()
        served.poll()
        assert viewer.next().header["state"] == "running"
        served.source.lost()
        served.poll()
        assert viewer.next().header["state"] == "lost"


def test_url_of_all_ipv6_addresses_has_no_ipv4_address() -> None:
    with serving(Served("::")) as served:
        host = urlsplit(served.url).hostname or ""
    assert ":" in host or host == socket.gethostname().lower()


def test_ten_viewers_are_served_concurrently(served: Served) -> None:
    def watch(_: int) -> int:
        with served.viewer() as viewer:
            return sum(bool(viewer.next().jpeg) for _ in range(10))

    stop = threading.Event()

    def play() -> None:
        while not stop.wait(0.01):
            served.show()

    player = threading.Thread(target=play)
    player.start()
    try:
        with ThreadPoolExecutor(10) as viewers:
            pictures = list(viewers.map(watch, range(10)))
    finally:
        stop.set()
        player.join(PATIENCE)
    assert min(pictures) >= 8


def test_disconnected_viewer_is_no_error(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        viewer = served.viewer()
        viewer.send()
        served.show()
        viewer.close()
    with served.viewer() as viewer:
        eventually(lambda: viewer.next().header["viewers"] == 1)
    assert errors(caplog.records) == []


def test_client_that_never_reads_uses_no_memory() -> None:
    picture = noise()
    with serving(Served()) as served, ExitStack() as stack:
        clients = [stack.enter_context(silent_reader(served)) for _ in range(10)]
        reading = stack.enter_context(served.viewer())

        def play(frames: int) -> float:
            """Longest time of a step, in seconds."""
            longest = 0.0
            for _ in range(frames):
                for client in clients:
                    client.send()
                began = time.monotonic()
                served.show(picture)
                longest = max(longest, time.monotonic() - began)
                reading.next()
            return longest

        play(20)
        before = Hardware().resident_memory()
        longest = play(60)
        grown = Hardware().resident_memory() - before
        size = len(reading.next().jpeg)
    assert size > 200_000
    assert grown < 20 * size, "60 frames went to 10 clients that read none"
    assert longest < STOP_LIMIT_WITH_WAITS


@pytest.mark.parametrize("fps", [50.0, 0.1])
def test_stop_with_stalled_clients_is_quick(fps: float, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as clients:
        with serving(Served(fps=fps)) as served:
            for _ in range(3):
                clients.enter_context(served.viewer())
                clients.enter_context(served.viewer()).send()
                client = clients.enter_context(silent_reader(served))
                for _ in range(20):
                    client.send()
                    served.show(noise())
                silent = socket.create_connection(("127.0.0.1", served.port))
                clients.enter_context(silent).sendall(b"GET / HTTP/1.1\r\n")
            began = time.monotonic()
        assert time.monotonic() - began < STOP_LIMIT_WITH_WAITS
    assert errors(caplog.records) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port))


def test_stop_before_run_ends_run() -> None:
    served = Served()
    served.server.stop()
    served.server.run(nullcontext())
    served.close()


def test_service_starts_no_threads() -> None:
    before = set(threading.enumerate())
    with serving(Served()) as served, served.viewer() as viewer:
        served.show()
        viewer.next()
        served.request("/minute.json")
        served.request("/")
        assert len(set(threading.enumerate()) - before) == 1


@pytest.mark.parametrize(
    "content", [b"\x16\x03\x01 a TLS hello\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"]
)
def test_invalid_request_ends_only_its_connection(
    served: Served, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as connection:
        connection.sendall(content)
        assert connection.recv(12).startswith(b"HTTP/1.1 400")
    assert served.request("/").status == 200
    assert errors(caplog.records) == []


@pytest.mark.parametrize(("content", "opcode"), [(b"next", 1), (b"", 1), (b"\xff", 2)])
def test_any_websocket_message_requests_the_next_frame(
    served: Served, content: bytes, opcode: int
) -> None:
    with served.viewer() as viewer:
        viewer.send(content, opcode=opcode)
        assert viewer.receive()


def test_oversized_websocket_message_ends_only_its_connection(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with served.viewer() as other:
        with served.viewer() as oversized:
            oversized.send(b"x" * 60_000)
            assert oversized.receive() == b""
        assert other.next().header["condition"]
    assert errors(caplog.records) == []


def test_announced_url_is_reachable() -> None:
    with serving(Served()) as served:
        assert served.url == f"http://127.0.0.1:{served.port}/"
    with serving(Served(EVERYWHERE)) as served:
        host, _, rest = served.url.removeprefix("http://").partition(f":{served.port}/")
        assert host not in {"0.0.0.0", ""}
        assert rest == f"?token={served.token}"
        try:
            socket.create_connection((host, served.port), timeout=PATIENCE).close()
        except socket.gaierror:
            pytest.skip("no network, and the host name does not resolve")


def test_ipv6_address_is_served() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6")
    with serving(Served("::1")) as served:
        assert served.url == f"http://[::1]:{served.port}/"
        socket.create_connection(("::1", served.port), timeout=PATIENCE).close()


def test_websocket_has_no_request_deadline(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_TIMEOUT_S", 2.0)
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 0.2)
    with served.viewer() as viewer:
        viewer.next()
        time.sleep(2.5)
        assert viewer.next().header["viewers"] == 1


def test_session_has_the_current_zones(served: Served) -> None:
    assert json.loads(served.request("/session").body)["zones"] == []
    served.server.apply(ZoneSettings(ignore=([0, 0, 0.5, 1],)))
    corners = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    assert json.loads(served.request("/session").body)["zones"] == [corners]
