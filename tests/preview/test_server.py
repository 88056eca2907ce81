"""The preview as a service: its end, its threads, and clients of all sorts."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext

import pytest
from preview.serving import EVERYWHERE, Served, Watcher, errors, noise, serving
from running import PATIENCE, eventually, free_port

from edge_daemon.errors import PreviewError
from edge_daemon.monitoring.hardware import Board
from edge_daemon.preview.server import MOST_CONNECTIONS, listening

STOP_LIMIT = 1.5
"""Seconds that the pipeline gives its services."""

SAYING_NOTHING = 5.0
"""Seconds after which a connection is let go on which nothing is asked."""


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served()) as made:
        yield made


def deaf(served: Served) -> Watcher:
    """A client that asks for all, and reads nothing."""
    watcher = served.watch()
    watcher.go_deaf()
    return watcher


def test_watcher_sees_one_frame_after_another(served: Served) -> None:
    with served.watch() as watcher:
        watcher.look()
        for _ in range(5):
            index = served.show().frame.index
            assert watcher.look().glance["frame"]["frame"] == index


def test_pause_takes_the_picture_away_and_is_told_to_all(served: Served) -> None:
    with served.watch() as first, served.watch() as second:
        first.look()
        served.show()
        assert first.look().jpeg
        served.pause.set(True)
        for watcher in (first, second):
            seen_now = watcher.look()
            assert (seen_now.glance["paused"], seen_now.jpeg) == (True, b"")


def test_loss_of_the_source_is_told(served: Served) -> None:
    with served.watch() as watcher:
        watcher.look()
        served.source.running()
        assert watcher.look().glance["state"] == "running"
        served.source.lost()
        assert watcher.look().glance["state"] == "lost"


def test_ten_watchers_are_served_at_once(served: Served) -> None:
    def watch(_: int) -> int:
        with served.watch() as watcher:
            return sum(bool(watcher.look().jpeg) for _ in range(10))

    stop = threading.Event()

    def play() -> None:
        while not stop.wait(0.01):
            served.show()

    player = threading.Thread(target=play)
    player.start()
    try:
        with ThreadPoolExecutor(10) as watchers:
            pictures = list(watchers.map(watch, range(10)))
    finally:
        stop.set()
        player.join(PATIENCE)
    assert min(pictures) >= 8


def test_watcher_that_left_is_no_error_and_leaves_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        watcher = served.watch()
        watcher.send()
        served.show()
        watcher.close()
    with served.watch() as watcher:
        eventually(lambda: watcher.look().glance["watchers"] == 1)
    assert errors(caplog.records) == []


def test_client_that_reads_nothing_holds_no_memory_and_slows_nobody() -> None:
    picture = noise()
    with serving(Served()) as served, ExitStack() as stack:
        clients = [stack.enter_context(deaf(served)) for _ in range(10)]
        hearing = stack.enter_context(served.watch())

        def play(frames: int) -> float:
            """The longest time that a frame took to be shown, in seconds."""
            longest = 0.0
            for _ in range(frames):
                for client in clients:
                    client.send()
                began = time.monotonic()
                served.show(picture)
                longest = max(longest, time.monotonic() - began)
                hearing.look()
            return longest

        play(20)
        before = Board().resident_memory()
        longest = play(60)
        grown = Board().resident_memory() - before
        size = len(hearing.look().jpeg)
    assert size > 200_000
    assert grown < 20 * size, "60 frames went to 10 clients that read none"
    assert longest < 0.2


@pytest.mark.parametrize("fps", [50.0, 0.1])
def test_service_ends_in_time_though_clients_hang_on(
    fps: float, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as clients:
        with serving(Served(fps=fps)) as served:
            for _ in range(3):
                clients.enter_context(served.watch())
                clients.enter_context(served.watch()).send()
                client = clients.enter_context(deaf(served))
                for _ in range(20):
                    client.send()
                    served.show(noise())
                silent = socket.create_connection(("127.0.0.1", served.port))
                clients.enter_context(silent).sendall(b"GET / HTTP/1.1\r\n")
            began = time.monotonic()
        assert time.monotonic() - began < STOP_LIMIT
    assert errors(caplog.records) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port))


def test_stop_before_the_start_ends_the_service() -> None:
    served = Served()
    served.service.stop()
    served.service.run(nullcontext)
    served.resources.close()


def test_service_has_no_threads_but_its_own() -> None:
    before = set(threading.enumerate())
    with serving(Served()) as served, served.watch() as watcher:
        served.show()
        watcher.look()
        served.ask("/minute.json")
        served.ask("/")
        assert len(set(threading.enumerate()) - before) == 1


def test_connections_are_limited_and_those_who_say_nothing_are_let_go(served: Served) -> None:
    with ExitStack() as clients:
        for _ in range(MOST_CONNECTIONS + 5):
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE)
            clients.enter_context(connection)
        connection.settimeout(SAYING_NOTHING / 2)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
        # Whoever was let in and said nothing has to make room, after some seconds.
        eventually(lambda: _answers(served))


def _answers(served: Served) -> bool:
    try:
        return served.ask("/session").status == 200
    except (ConnectionError, TimeoutError):
        return False


@pytest.mark.parametrize("words", [b"\x16\x03\x01 a TLS hello\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"])
def test_nonsense_ends_nothing(
    served: Served, words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as connection:
        connection.sendall(words)
        assert connection.recv(12).startswith(b"HTTP/1.1 400")
    assert served.ask("/").status == 200
    assert errors(caplog.records) == []


@pytest.mark.parametrize(("word", "opcode"), [(b"next", 1), (b"", 1), (b"\xff", 2)])
def test_whatever_a_watcher_says_asks_for_the_next(
    served: Served, word: bytes, opcode: int
) -> None:
    with served.watch() as watcher:
        watcher.send(word, opcode=opcode)
        assert watcher.receive()


def test_watcher_that_says_too_much_is_cut_off_and_others_are_not(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with served.watch() as other:
        with served.watch() as talker:
            talker.send(b"x" * 60_000)
            assert talker.receive() == b""
        assert other.look().glance["condition"]
    assert errors(caplog.records) == []


def test_port_in_use_is_one_line_that_names_it(served: Served) -> None:
    with pytest.raises(PreviewError, match=f"127.0.0.1:{served.port}: .*in use") as refusal:
        listening(("127.0.0.1", served.port))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "192.0.2.1"])
def test_address_that_is_not_this_machines_is_refused_by_name(host: str) -> None:
    with pytest.raises(PreviewError, match=host):
        listening((host, free_port()))


def test_address_that_is_told_can_be_opened() -> None:
    with serving(Served()) as served:
        assert served.url == f"http://127.0.0.1:{served.port}/"
    with serving(Served(EVERYWHERE)) as served:
        host, _, rest = served.url.removeprefix("http://").partition(f":{served.port}/")
        assert host not in {"0.0.0.0", ""}
        assert rest == f"?token={served.token}"
        try:
            socket.create_connection((host, served.port), timeout=PATIENCE).close()
        except socket.gaierror:
            pytest.skip("this machine is in no network, and its name is not known")


def test_ipv6_is_served() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6")
    with serving(Served("::1")) as served:
        assert served.url == f"http://[::1]:{served.port}/"
        socket.create_connection(("::1", served.port), timeout=PATIENCE).close()
