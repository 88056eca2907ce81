"""The HTTP server's limits, against clients that exceed them."""

import asyncio
import contextlib
import logging
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import pytest
from running import PATIENCE, STOP_LIMIT_WITH_WAITS, eventually, free_port, send_until_closed

from edge_daemon._lib import http_server
from edge_daemon._lib.http_server import ASGIMessage, ConnectionLimits, HttpServer, listen
from edge_daemon.errors import PreviewError

pytestmark = pytest.mark.usefixtures("_quick_uvicorn")

HOST = "127.0.0.1"
LIMITS = ConnectionLimits(total=8, per_address=4)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT_TIMEOUT_S = 2.0
"""Limit on a request that one without a pause meets, also on a busy machine."""


async def hello(scope: ASGIMessage, _receive: object, send) -> None:
    """An application that answers; at `/slow` it starts a response and does not end it."""
    headers = [(b"content-length", b"5")]
    if scope["path"] == "/slow":
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await asyncio.sleep(PATIENCE)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


@contextmanager
def serving(limits: ConnectionLimits = LIMITS, host: str = HOST) -> Iterator[int]:
    """Serve the application; yields its port."""
    port = free_port()
    listener = listen((host, port), "preview.listen", PreviewError)
    server = HttpServer(hello, listener, limits, websockets=False)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(nullcontext())))
    thread.start()
    try:
        yield port
    finally:
        server.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture(autouse=True)
def fresh_log_limit() -> None:
    http_server.LOG_LIMIT.reset()


@pytest.fixture
def port() -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_TIMEOUT_S", SHORT_TIMEOUT_S)
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", SHORT_TIMEOUT_S)


def connect(port: int, host: str = HOST) -> socket.socket:
    return socket.create_connection((HOST, port), PATIENCE, source_address=(host, 0))


def get(port: int) -> bytes:
    with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=PATIENCE) as response:
        return response.read()


def start_slow_request(port: int, host: str = HOST) -> socket.socket:
    """A connection whose request the server has received."""
    connection = connect(port, host)
    connection.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed the connection."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_connection_carries_one_request(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(2 * REQUEST)
        response = b"".join(iter(lambda: connection.recv(4096), b""))
    assert response.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in response


@pytest.mark.usefixtures("short_timeouts")
def test_silent_client_is_disconnected_at_the_deadline(port: int) -> None:
    with connect(port) as connection:
        assert is_closed(connection)


@pytest.mark.usefixtures("short_timeouts")
def test_slow_head_does_not_extend_the_deadline(port: int) -> None:
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        for byte in REQUEST[:-4] + 200 * b"x":
            connection.sendall(bytes([byte]))
            time.sleep(SHORT_TIMEOUT_S / 10)
        raise AssertionError("the connection outlived its deadline")


@pytest.mark.usefixtures("short_timeouts")
def test_slow_response_is_disconnected_at_the_deadline(port: int) -> None:
    with start_slow_request(port) as connection:
        began = time.monotonic()
        connection.recv(4096)
        assert is_closed(connection)
        assert time.monotonic() - began < PATIENCE / 3  # the response itself ends later
    assert get(port) == b"hello"


def test_waiting_clients_make_room_for_a_new_one(port: int) -> None:
    with ExitStack() as clients:
        waiting = [clients.enter_context(connect(port)) for _ in range(LIMITS.per_address)]
        for client in waiting:
            client.sendall(b"G")
        for _ in range(LIMITS.per_address):
            assert get(port) == b"hello"
        assert is_closed(waiting[0])


def test_clients_with_requests_are_not_displaced(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as clients:
        for _ in range(LIMITS.per_address):
            clients.enter_context(start_slow_request(port))
        with connect(port) as refused:
            assert is_closed(refused)
        with connect(port, "127.0.0.2") as other:
            other.sendall(REQUEST)
            assert other.recv(12) == b"HTTP/1.1 200"
    records = [record for record in caplog.records if record.name == http_server.__name__]
    assert [vars(record)["client"] for record in records] == [HOST]


def test_total_limit_holds_across_addresses(port: int) -> None:
    with ExitStack() as clients:
        for number in range(LIMITS.total):
            clients.enter_context(start_slow_request(port, f"127.0.1.{number}"))
        with connect(port, "127.0.2.1") as refused:
            assert is_closed(refused)


def test_refusals_are_logged_once(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as clients:
        for _ in range(LIMITS.per_address):
            clients.enter_context(start_slow_request(port))
        for _ in range(20):
            with connect(port) as refused:
                assert is_closed(refused)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["connection limit reached, refusing clients"]


def test_port_in_use_names_setting_and_address(port: int) -> None:
    with pytest.raises(PreviewError, match=rf"preview\.listen: .*in use.*{HOST}:{port}") as refusal:
        listen((HOST, port), "preview.listen", PreviewError)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "192.0.2.1"])
def test_foreign_address_is_refused_with_its_name(host: str) -> None:
    with pytest.raises(PreviewError, match=host):
        listen((host, free_port()), "preview.listen", PreviewError)


def test_unspecified_ipv6_address_serves_both_versions() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    with serving(host="::") as port:
        assert get(port) == b"hello"
        with socket.create_connection(("::1", port), PATIENCE) as connection:
            connection.sendall(REQUEST)
            assert connection.recv(12) == b"HTTP/1.1 200"
    limits = ConnectionLimits(total=9, per_address=1)
    with serving(limits, "::") as port, start_slow_request(port, "127.0.0.2"):
        assert get(port) == b"hello"  # from another address


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
def test_client_is_an_address_or_an_ipv6_network(first: str, second: str, *, is_same: bool) -> None:
    assert (http_server._client(first) == http_server._client(second)) is is_same


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01 a TLS hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\na: " + 2 * http_server.MAX_HEAD_BYTES * b"b",
    ],
)
def test_invalid_requests_end_only_their_connection(
    port: int, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(port) as connection:
        send_until_closed(connection, content)
    assert get(port) == b"hello"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_clients_that_reset_are_no_error(port: int, caplog: pytest.LogCaptureFixture) -> None:
    for content in (b"", b"GET / HTTP/1.1\r\n", REQUEST):
        with connect(port) as connection:
            connection.sendall(content)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert get(port) == b"hello"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_stop_with_open_connections_is_quick(caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as clients:
        with serving() as port:
            clients.enter_context(start_slow_request(port))
            for content in (b"", b"G"):
                clients.enter_context(connect(port)).sendall(content)
            assert get(port) == b"hello"
            started = time.monotonic()
        assert time.monotonic() - started < STOP_LIMIT_WITH_WAITS
    assert caplog.messages == []
    eventually(lambda: _is_refused(port))


def _is_refused(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_failed_accept_loop_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(http_server._Server, "_accept", fail)
    port = free_port()
    listener = listen((HOST, port), "preview.listen", PreviewError)
    server = HttpServer(hello, listener, LIMITS, websockets=False)
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(server.serve(nullcontext()))
    assert _is_refused(port)
